"""Divides responses into claims, judges each claim, scores the responses and sets them side by side in pairs.

    python -m feedback --config configs/demo.yaml --run runs/demo

Reads `prompts` (never its column `reference`: the truth is for `feedback.evaluate` alone) and `responses`, and writes

    claims   one row a claim: the claim, its question, p_yes, p_no, p_other, verdict
    scores   one row a scored response: claims, rejected claims, score, and the score of the response judged as a whole
    pairs    one row a preference pair in TRL's conversational format, with the claims that decided it
    dropped  what did not get that far, with its reason

Stopped, it goes on from what is on disk.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from feedback.by_prompt import Row, join_by_prompt
from feedback.labelling import Labeler, Prompt
from feedback.pairs import Pair, Scored, build_pairs
from feedback.summary import Summary
from feedback.wording import Wording, read_wording
from rlaif.config import Config, EngineSection, ModelSection, run_stage
from rlaif.engine import Engine, open_engine
from rlaif.run import Run, model_revision
from rlaif.tables import TableWriter, count_rows, make_id, read_rows

PROMPTS_PER_CHUNK = 64  # labelled together, and lost if the stage is killed
RESPONSE_COLUMNS = ["response_id", "prompt_id", "text", "finish_reason", "num_tokens", "round"]
CLAIM_COLUMNS = ["prompt_id", "response_id", "claim", "question", "p_yes", "p_no", "p_other", "verdict"]

OpenEngine = Callable[[ModelSection, EngineSection, int], Engine]


def feedback(config: Config, path: Path, open_engine: OpenEngine = open_engine) -> None:
    """The stage. Errors: RlaifError for whatever the user can put right."""
    run = Run(path, config, "feedback")
    wording = read_wording(config.feedback.prompts)
    revision = model_revision(config.labeler)
    settings = {
        "seed": config.seed,
        "labeler": {**config.labeler.model_dump(), "revision": revision},
        "feedback": {**config.feedback.model_dump(), "prompts": asdict(wording)},
        "max_model_len": config.engine.max_model_len,
    }
    if not run.begin(["claims", "scores", "pairs"], settings, inputs=["prompts", "responses"]):
        return
    run.announce(
        f"divides {count_rows(run, 'responses'):,} responses into claims and asks {config.labeler.model} about each",
        f"scores them by {config.feedback.score} and makes at most {config.feedback.pairs_per_prompt} pairs a prompt"
        + (", of equal mean lengths" if config.feedback.balance_length else ""),
    )
    kept = label_responses(run, wording, revision, open_engine)
    summary, kept["pairs"] = make_pairs(run)
    for line in summary.lines(config.feedback.min_yes_no_mass):
        print(f"  {line}")
    run.update_metrics(feedback=summary.metrics())
    run.finish(kept, next_command=f"make dpo RUN={path}, with the same CONFIG and SET")


def label_responses(run: Run, wording: Wording, revision: str, open_engine: OpenEngine) -> dict[str, int]:
    """Divide, conquer, combine: writes `claims` and `scores`, one part a chunk of prompts; returns their row counts."""
    config = run.config
    claims = TableWriter(run, "claims", key="prompt_id")
    scores = TableWriter(run, "scores", key="prompt_id")
    if not scores.path.is_file():
        with closing(open_engine(config.labeler, config.engine, config.seed)) as engine:
            labeler = Labeler(engine, wording, config.feedback, config.seed, config.labeler.model, revision)
            for title, chunk in _chunks(run, scores.done):
                labels = labeler.label(chunk, title)
                for drop in labels.drops:
                    run.drop(drop.row_id, drop.reason, drop.detail)
                # Scores go last: a prompt is done when they are in. Killed in between, its claims are in already.
                claims.write(row for row in labels.claims if row["prompt_id"] not in claims.done)
                claims.flush()
                scores.write(labels.scores)
                scores.flush()
    return {"claims": claims.finish(), "scores": scores.finish()}


def make_pairs(run: Run) -> tuple[Summary, int]:
    """Writes `pairs` from `responses`, `claims` and `scores`; returns figures and the number of pairs. No model."""
    settings, seed = run.config.feedback, run.config.seed
    summary = Summary()
    with TableWriter(run, "pairs", key="prompt_id") as writer:
        for prompt, rows in join_by_prompt(
            read_rows(run, "prompts", ["prompt_id", "image", "instruction", "split"]),
            responses=read_rows(run, "responses", RESPONSE_COLUMNS),
            claims=read_rows(run, "claims", CLAIM_COLUMNS),
            scores=read_rows(run, "scores", ["prompt_id", "response_id", "score"]),
        ):
            if not rows["responses"]:
                continue
            texts = {row["response_id"]: row["text"] for row in rows["responses"]}
            claims: dict[str, list[Row]] = {row["response_id"]: [] for row in rows["scores"]}
            for claim in rows["claims"]:
                if claim["response_id"] in claims:
                    claims[claim["response_id"]].append(claim)
            for response_id, own in claims.items():
                summary.add_response(texts[response_id], own, settings.min_yes_no_mass)
            pairs, drops = build_pairs(
                prompt["prompt_id"],
                [Scored(row["response_id"], texts[row["response_id"]], row["score"]) for row in rows["scores"]],
                limit=settings.pairs_per_prompt,
                seed=int(make_id(str(seed), prompt["prompt_id"]), 16) % 2**31,
                surplus=summary.extra_words if settings.balance_length else None,
            )
            for drop in drops:
                run.drop(drop.row_id, drop.reason, drop.detail)
            for pair in pairs:
                summary.add_pair(pair)
            if prompt["prompt_id"] not in writer.done:
                round_ = rows["responses"][0]["round"]
                writer.write(pair_row(prompt, pair, claims, round_) for pair in pairs)
        return summary, writer.finish()


def pair_row(prompt: Row, pair: Pair, claims: dict[str, list[Row]], round_: int) -> Row:
    """A row of `pairs`: conversational messages as TRL takes them, the image, and why the one was preferred."""
    return {
        "pair_id": make_id(pair.chosen.response_id, pair.rejected.response_id),
        "prompt_id": prompt["prompt_id"],
        "images": [prompt["image"]],
        "prompt": [{"role": "user", "content": prompt["instruction"]}],
        "chosen": [{"role": "assistant", "content": pair.chosen.text}],
        "rejected": [{"role": "assistant", "content": pair.rejected.text}],
        "chosen_response_id": pair.chosen.response_id,
        "rejected_response_id": pair.rejected.response_id,
        "chosen_score": pair.chosen.score,
        "rejected_score": pair.rejected.score,
        "chosen_claims": [_judged(claim) for claim in claims[pair.chosen.response_id]],
        "rejected_claims": [_judged(claim) for claim in claims[pair.rejected.response_id]],
        "round": round_,
        "split": prompt["split"],
    }


def _judged(claim: Row) -> Row:
    return {name: claim[name] for name in ("claim", "question", "p_yes", "p_no", "verdict")}


def _chunks(run: Run, done: set[str]) -> Iterator[tuple[str, list[Prompt]]]:
    """Prompts with responses after the last one that is done, a chunk at a time with a title for its progress bar."""
    prompts = _prompts_after(run, done)
    first = len(done) + 1
    while chunk := list(islice(prompts, PROMPTS_PER_CHUNK)):
        yield f"prompts {first:,}-{first + len(chunk) - 1:,}", chunk
        first += len(chunk)


def _prompts_after(run: Run, done: set[str]) -> Iterator[Prompt]:
    """Chunks are done in order: a prompt before a done one is done too, even if none of its responses had a score."""
    done_ahead = len(done)
    for prompt, rows in join_by_prompt(
        read_rows(run, "prompts", ["prompt_id", "image", "image_sha256"]),
        responses=read_rows(run, "responses", RESPONSE_COLUMNS),
    ):
        if prompt["prompt_id"] in done:
            done_ahead -= 1
        elif done_ahead == 0 and rows["responses"]:
            yield Prompt(prompt["prompt_id"], prompt["image"]["bytes"], prompt["image_sha256"], rows["responses"])


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(Config, "feedback", (__doc__ or "").splitlines()[0], feedback, argv)


if __name__ == "__main__":
    sys.exit(main())
