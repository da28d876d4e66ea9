"""Pair building from scored responses, ours against the RLAIF-V code: rows per second, peak memory, at four sizes.

    make bench-pairs             # at one size, with repeats: make bench NAME=pairs
    python -m bench.comparisons.pairs --responses 2000 4000 8000 16000

A synthetic run has K = 10 responses per prompt and C = 10 claims per response. Ours is `feedback.make_pairs`: from
`prompts`, `responses`, `claims` and `scores` to `pairs` with their claims, statistics and drops. The reference follows
the published steps (github RLHF-V/RLAIF-V, utils/get_preference_pairs.py and pair_construction.py): read all answers
and claims from JSON lines into lists of dictionaries, search repeated instructions in a list, group verdicts by answer,
turn every two answers of an instruction with different scores into a pair with both answers and their facts, write all
pairs, read them again, and draw two per instruction. Its files have no images, ours do. A row is a response or a claim.
Each measurement runs in a new process.
"""

import argparse
import json
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, redirect_stdout
from io import BytesIO, StringIO
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from bench.isolated import peak_memory, run_isolated
from bench.result import Result, compare_rates
from feedback.stage import make_pairs
from rlaif.config import Config
from rlaif.storage.run import Run
from rlaif.storage.schemas import SCHEMAS

K, C = 10, 10  # responses per prompt, claims per response
PART_PROMPTS = 200
FACTS_PER_PROMPT = 30  # from which its responses draw their claims, so that these overlap like real ones
CONFIG = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}})
WORDS = (
    ["red", "blue", "green", "small", "large", "old", "wooden", "striped", "broken", "shiny"],
    ["dog", "car", "table", "lamp", "bicycle", "window", "bottle", "child", "bridge", "umbrella", "horse", "camera"],
    ["standing", "lying", "leaning", "glowing", "moving", "waiting"],
    ["near", "behind", "above", "under", "beside", "before"],
    [
        "the door",
        "the street",
        "the river",
        "the fence",
        "a tall tree",
        "the white wall",
        "the old tower",
        "the kitchen sink",
    ],
)


def facts() -> tuple[pa.Array, pa.Array]:
    """All 34,560 possible claims, and their questions."""
    parts = [" ".join(words) for words in product(*WORDS)]
    return pa.array([f"There is a {part}." for part in parts]), pa.array([f"Is there a {part}?" for part in parts])


def parts(responses: int, seed: int) -> Iterator[dict[str, pa.Table]]:
    """The tables of a run, part by part."""
    claim_texts, questions = facts()
    rng = np.random.default_rng(seed)
    file = BytesIO()
    Image.effect_noise((64, 48), 50).save(file, "PNG")
    total = responses // K
    for start in range(0, total, PART_PROMPTS):
        count = min(PART_PROMPTS, total - start)
        prompt_facts = rng.integers(len(claim_texts), size=(count, 1, FACTS_PER_PROMPT))
        chosen = rng.permuted(np.broadcast_to(prompt_facts, (count, K, FACTS_PER_PROMPT)), axis=2)[:, :, :C].ravel()
        texts = claim_texts.take(pa.array(chosen))
        answers = pc.binary_join(pa.ListArray.from_arrays(range(0, len(chosen) + 1, C), texts), " ")
        p_yes = rng.beta(4, 1, size=len(chosen)).astype(np.float32)
        rejected = (p_yes <= 0.5).reshape(-1, C).sum(axis=1)
        prompts = [f"{index:016x}" for index in range(start, start + count)]
        responses_ids = [f"{prompt[6:]}{index:06x}" for prompt in prompts for index in range(K)]
        by_response, by_claim = np.repeat(prompts, K), np.repeat(prompts, K * C)
        yield {
            "prompts": table(
                "prompts",
                prompt_id=prompts,
                image=[{"bytes": file.getvalue(), "path": "noise.png"}] * count,
                image_sha256=prompts,
                instruction="Describe the picture.",
                source="bench",
                split="train",
                reference=pa.nulls(count, pa.string()),
            ),
            "responses": table(
                "responses",
                response_id=responses_ids,
                prompt_id=by_response,
                sample_index=np.tile(np.arange(K), count),
                seed=0,
                text=answers,
                finish_reason="stop",
                num_tokens=C * 10,
                temperature=0.7,
                top_p=1.0,
                policy="p",
                policy_revision="0",
                round=1,
            ),
            "claims": table(
                "claims",
                claim_id=[f"{row}{index}" for row in responses_ids for index in range(C)],
                response_id=np.repeat(responses_ids, C),
                prompt_id=by_claim,
                claim_index=np.tile(np.arange(C), count * K),
                claim=texts,
                question=questions.take(pa.array(chosen)),
                outcome="asked",
                reason="",
                p_yes=p_yes,
                p_no=1 - p_yes,
                p_other=np.zeros_like(p_yes),
                verdict=p_yes > 0.5,
                labeler="l",
                labeler_revision="0",
            ),
            "scores": table(
                "scores",
                response_id=responses_ids,
                prompt_id=by_response,
                num_claims=C,
                num_rejected=rejected,
                num_restated=0,
                num_unknown=0,
                score=-rejected.astype(float),
                score_low=-rejected.astype(float),
                score_high=-rejected.astype(float),
                coverage=1.0,
                whole_response_score=0.0,
            ),
        }


def table(name: str, **columns: Any) -> pa.Table:
    """A table with the schema of `name`; a single value is repeated in all rows."""
    rows = next(len(values) for values in columns.values() if not isinstance(values, str | int | float))
    arrays = []
    for field in SCHEMAS[name]:
        values = columns[field.name]
        if isinstance(values, str | int | float):
            arrays.append(pa.repeat(pa.scalar(values, field.type), rows))
        else:
            arrays.append(values.cast(field.type) if isinstance(values, pa.Array) else pa.array(values, field.type))
    return pa.table(arrays, schema=SCHEMAS[name])


def write_run(path: Path, responses: int, seed: int = 0) -> None:
    """Write a labeled run without pairs."""
    run = Run(path, CONFIG, "feedback")
    run.begin(["claims", "scores", "pairs"], {}, inputs=[])
    with ExitStack() as files:
        writers: dict[str, pq.ParquetWriter] = {}
        for part in parts(responses, seed):
            for name, rows in part.items():
                if name not in writers:
                    metadata = {**SCHEMAS[name].metadata, b"rlaif": json.dumps(run.provenance(name)).encode()}
                    schema = SCHEMAS[name].with_metadata(metadata)
                    writers[name] = files.enter_context(pq.ParquetWriter(path / f"{name}.parquet", schema))
                writers[name].write_table(rows.cast(writers[name].schema))


def write_reference_files(path: Path, responses: int, seed: int = 0) -> None:
    """Write the same responses and claims in the files that the reference reads."""
    path.mkdir(parents=True)
    with (path / "answers.jsonl").open("w") as answers, (path / "claims.jsonl").open("w") as claims:
        for part in parts(responses, seed):
            facts_of: dict[str, list[str]] = defaultdict(list)
            for row in part["claims"].to_pylist():
                facts_of[row["response_id"]].append(row["question"])
                scores = {"yes": row["p_yes"], "Yes": 0.0, "no": row["p_no"], "No": 0.0}
                about = {"ds_question_id": row["prompt_id"], "metainfos": {"origin_question": "Describe the picture."}}
                claim = {"question_id": row["response_id"], "raw_question": row["question"], "scores": scores}
                claims.write(json.dumps({**claim, "metainfos": about}) + "\n")
            for row in part["responses"].to_pylist():
                about = {"image_path": f"{row['prompt_id']}.png"}
                answer = {"question_id": row["response_id"], "ds_question_id": row["prompt_id"], "answer": row["text"]}
                answer |= {"raw_question": "Describe the picture.", "facts": facts_of[row["response_id"]]}
                answers.write(json.dumps({**answer, "metainfos": about}) + "\n")


def ours(path: Path) -> int:
    """Returns the number of pairs."""
    run = Run(path, CONFIG, "feedback")
    run.begin(["claims", "scores", "pairs"], {}, inputs=[])
    with redirect_stdout(StringIO()):
        _, pairs = make_pairs(run)
        run.finish({"pairs": pairs}, None)
    return pairs


def reference(path: Path) -> int:
    """Returns the number of pairs."""
    claims, answers = read_lines(path / "claims.jsonl"), read_lines(path / "answers.jsonl")
    used: list[str] = []
    current, kept = None, []
    for answer in answers:
        key = f"{answer['ds_question_id']}@{answer['raw_question']}"
        if key != current:
            if key in used:
                continue
            used.append(key)
            current = key
        kept.append(answer)
    ids = {answer["question_id"] for answer in kept}
    claims = [claim for claim in claims if claim["question_id"] in ids]

    verdicts: dict[str, dict[str, str]] = defaultdict(dict)
    labels: dict[str, list[int]] = defaultdict(list)
    by_instruction: dict[str, list[str]] = defaultdict(list)
    yes = np.array([claim["scores"]["yes"] + claim["scores"]["Yes"] for claim in claims])
    no = np.array([claim["scores"]["no"] + claim["scores"]["No"] for claim in claims])
    for claim, accepted in zip(claims, yes > no, strict=True):
        labels[claim["question_id"]].append(int(accepted))
        verdicts[claim["question_id"]][claim["raw_question"]] = "1" if accepted else "0"
        about = claim["metainfos"]
        by_instruction[f"{about['ds_question_id']}@{about['metainfos']['origin_question']}"].append(
            claim["question_id"]
        )
    scores = {key: sum(values) - len(values) for key, values in labels.items()}

    rows = {answer["question_id"]: answer for answer in kept}
    pairs = []
    for key, question_ids in by_instruction.items():
        for first, second in combinations(sorted(set(question_ids)), 2):
            if scores[first] == scores[second]:
                continue
            better, worse = (first, second) if scores[first] > scores[second] else (second, first)
            pairs.append(
                {
                    "ds_question_id": key,
                    "image_path": rows[better]["metainfos"]["image_path"],
                    "question": rows[better]["raw_question"],
                    "chosen": rows[better]["answer"],
                    "rejected": rows[worse]["answer"],
                    "facts": {"chosen": rows[better]["facts"], "rejected": rows[worse]["facts"]},
                    "judge": {"chosen": verdicts[better], "rejected": verdicts[worse]},
                    "scores": {"chosen": scores[better], "rejected": scores[worse]},
                }
            )
    write_lines(path / "all_pairs.jsonl", pairs)

    drawn = []
    grouped: dict[str, list[Any]] = defaultdict(list)
    for pair in read_lines(path / "all_pairs.jsonl"):
        grouped[pair["ds_question_id"]].append(pair)
    for group in grouped.values():
        drawn += random.sample(group, min(2, len(group)))
    write_lines(path / "pairs.jsonl", drawn)
    return len(drawn)


def read_lines(path: Path) -> list[Any]:
    with path.open() as file:
        return [json.loads(line) for line in file]


def write_lines(path: Path, rows: list[Any]) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def measured(work: Callable[[Path], int], path: Path) -> tuple[int, float, float]:
    """Pairs, seconds, and the peak memory of this process in MiB."""
    started = time.perf_counter()
    pairs = work(path)
    return pairs, time.perf_counter() - started, peak_memory()


def measure(variant: str, responses: int) -> tuple[int, float, float]:
    """`measured` for one implementation, on a table of that many responses."""
    write, work = {"reference": (write_reference_files, reference), "ours": (write_run, ours)}[variant]
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "run"
        run_isolated(write, path, responses)
        figures: tuple[int, float, float] = run_isolated(measured, work, path)
        return figures


def compare(repeats: int, responses: int = 100_000) -> Result:
    """Rows per second of both implementations, measured in turn."""
    rates: dict[str, list[float]] = {"reference": [], "ours": []}
    for _ in range(repeats):
        for variant, variant_rates in rates.items():
            pairs, seconds, peak = measure(variant, responses)
            variant_rates.append(responses * (1 + C) / seconds)
            print(f"{variant}: {responses:,} responses, {pairs:,} pairs, {seconds:.1f} s, {peak:,.0f} MiB", flush=True)
    return compare_rates(rates["ours"], rates["reference"], "rows/s")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--responses", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument(
        "--reference-up-to", type=int, default=100_000, help="larger tables are measured with ours only"
    )
    arguments = parser.parse_args(argv)
    print("| responses | claims | variant | pairs | seconds | rows/s | peak MiB | ratio |\n" + "|---" * 8 + "|")
    for responses in arguments.responses:
        rows = responses * (1 + C)
        rates = {}
        for variant in ("reference", "ours"):
            if variant == "reference" and responses > arguments.reference_up_to:
                continue
            pairs, seconds, peak = measure(variant, responses)
            rates[variant] = rows / seconds
            ratio = f"{rates['ours'] / rates['reference']:.3g}" if len(rates) == 2 else ""
            print(
                f"| {responses:,} | {responses * C:,} | {variant} | {pairs:,} | {seconds:.1f} | {rates[variant]:,.0f} "
                f"| {peak:,.0f} | {ratio} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
