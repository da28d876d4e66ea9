"""Imported answers -> rows of `pairs` or of `responses`, prompt by prompt in the order of `prompts`."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from rlaif.config import Config
from rlaif.interchange.importer.answers import AnswerFile, Answers
from rlaif.interchange.importer.prompts import check_answer
from rlaif.interchange.importer.sample import UnusableRowError
from rlaif.sources.picture import Drop
from rlaif.storage.files import make_id
from rlaif.storage.run import Run
from rlaif.storage.tables import Row, read_parts
from rlaif.storage.writer import TableWriter
from rlaif.text import words

PROMPT_COLUMNS = ["prompt_id", "image", "instruction", "split"]
ROW_GROUP_BYTES = 4 * 2**20  # DPO reads `pairs` at random, a row group for each row


def write_pairs(run: Run[Config], answers: AnswerFile) -> dict[str, float | None]:
    """Write `pairs`. Returns the mean words of chosen and of rejected answers, None if there are no pairs."""
    chosen = rejected = pairs = 0
    with TableWriter(run, "pairs", key="prompt_id", row_group_bytes=ROW_GROUP_BYTES) as writer:
        for prompt, given in joined(run, PROMPT_COLUMNS, answers):
            rows = pair_rows(prompt, given, run.config.round, run.drop)
            for row in rows:
                pairs += 1
                chosen += len(words(row["chosen"][0]["content"]))
                rejected += len(words(row["rejected"][0]["content"]))
            if prompt["prompt_id"] not in writer.done:
                writer.write(rows)
    return {
        "mean_words_chosen": chosen / pairs if pairs else None,
        "mean_words_rejected": rejected / pairs if pairs else None,
    }


def pair_rows(prompt: Row, given: list[Answers], round: int, drop: Drop) -> list[Row]:
    """The distinct pairs of a prompt; scores are null and there are no claims, because nothing was verified."""
    rows: dict[str, Row] = {}
    for answers in given:
        texts = dict(zip(("chosen", "rejected"), answers.answers, strict=True))
        ids = {side: make_id(prompt["prompt_id"], text) for side, text in texts.items()}
        pair_id = make_id(ids["chosen"], ids["rejected"])
        if pair_id in rows:
            drop(answers.row, "duplicate_pair", f"repeats the pair {pair_id}")
            continue
        rows[pair_id] = {
            "pair_id": pair_id,
            "prompt_id": prompt["prompt_id"],
            "images": [prompt["image"]],
            "prompt": [{"role": "user", "content": prompt["instruction"]}],
            "round": round,
            "split": prompt["split"],
        }
        for side, text in texts.items():
            rows[pair_id] |= {
                side: [{"role": "assistant", "content": text}],
                f"{side}_response_id": ids[side],
                f"{side}_score": None,
                f"{side}_claims": [],
            }
    return list(rows.values())


def write_responses(run: Run[Config], answers: AnswerFile) -> dict[str, Any]:
    """Write `responses`. Returns the policies that wrote them, None for one that is not named."""
    policies: dict[str | None, int] = {}
    with TableWriter(run, "responses", key="prompt_id") as writer:
        for prompt, given in joined(run, ["prompt_id"], answers):
            rows = response_rows(prompt["prompt_id"], given, run)
            for row in rows:
                policies[row["policy"]] = policies.get(row["policy"], 0) + 1
            if prompt["prompt_id"] not in writer.done:
                writer.write(rows)
    return {"policies": {name or "not named": count for name, count in policies.items()}}


def response_rows(prompt_id: str, given: list[Answers], run: Run[Config]) -> list[Row]:
    """The distinct responses to a prompt; what is not known of their sampling is null."""
    rows: dict[str, Row] = {}
    for answers in given:
        for index, text in enumerate(answers.answers):
            row_id = answers.row if len(answers.answers) == 1 else f"{answers.row}/{index}"
            response_id = make_id(prompt_id, text)
            try:
                check_answer(text, run.config.data)
            except UnusableRowError as error:
                run.drop(row_id, error.reason, str(error))
                continue
            if response_id in rows:
                run.drop(row_id, "equal_text", f"same text as {response_id}")
                continue
            rows[response_id] = {
                "response_id": response_id,
                "prompt_id": prompt_id,
                "sample_index": len(rows),
                "seed": None,
                "text": text,
                "finish_reason": "stop",
                "num_tokens": None,
                "temperature": None,
                "top_p": None,
                "policy": answers.policy,
                "policy_revision": None,
                "round": run.config.round,
            }
    return list(rows.values())


def joined(run: Run[Config], columns: list[str], answers: AnswerFile) -> Iterator[tuple[Row, list[Answers]]]:
    """Each prompt, with these columns, and its answers; a row group of prompts is in memory at a time."""
    ids = pa.concat_tables(read_parts(run, "prompts", ["prompt_id"]))["prompt_id"]
    given = answers.by_prompt(ids)
    prompt_id, rows = next(given)
    for part in read_parts(run, "prompts", columns):
        for prompt in part.to_pylist():
            if prompt["prompt_id"] == prompt_id:
                yield prompt, rows
                prompt_id, rows = next(given, ("", []))
