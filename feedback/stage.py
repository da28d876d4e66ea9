"""Divides responses into claims, judges each claim, scores the responses and sets them side by side in pairs.

    python -m feedback --config configs/demo.yaml --run runs/demo

Reads `prompts` (never its column `reference`: the truth is for `evaluation` alone) and `responses`, and writes

    splits   one row a divided response, where `splitter` names a model of its own for that
    claims   one row a claim: the claim, its question, p_yes, p_no, p_other, verdict
    scores   one row a scored response: claims, rejected claims, score, share of its words that the claims have, and
             the score of the response judged as a whole
    pairs    one row a preference pair in TRL's conversational format, with the claims that decided it
    dropped  what did not get that far, with its reason

Stopped, it goes on from what is on disk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from feedback.divide import Claim, Split
from feedback.labeling import Labeler, Labels, Prompt, record_drops, split_responses
from feedback.pairs import Drop, build_pairs
from feedback.prompt_files import LabelerPrompts, read_prompts
from feedback.scored import pair_rows, scored_answers
from feedback.summary import Summary
from rlaif.config import Config, ModelSection
from rlaif.inference.chunks import Chunk, EngineSpec, batch_by_image
from rlaif.inference.engine import Engine, OpenEngine
from rlaif.inference.metering import Cost, MeteredEngine
from rlaif.inference.open import open_engine
from rlaif.inference.revision import model_revision, pin_revision
from rlaif.inference.work import map_chunks
from rlaif.storage.files import make_id
from rlaif.storage.join import join_by_prompt, join_parts
from rlaif.storage.rows import read_located_parts, read_rows_at, row_locations
from rlaif.storage.run import Run
from rlaif.storage.tables import count_rows, read_parts
from rlaif.storage.writer import TableWriter

PROMPTS_PER_CHUNK = 128  # labelled together, and lost if the stage is killed
PAIRS_AT_ONCE = 250  # rows of `pairs` made in one go; each has its image
RESPONSE_COLUMNS = ["response_id", "prompt_id", "text", "finish_reason", "num_tokens"]
CLAIM_COLUMNS = ["prompt_id", "response_id", "claim", "question", "p_yes", "p_no", "p_other", "verdict"]


def feedback(config: Config, path: Path, open_engine: OpenEngine = open_engine) -> None:
    """The stage. Errors: RlaifError for whatever the user can put right."""
    run = Run(path, config, "feedback")
    wording = read_prompts(config.feedback.prompts)
    labeler, splitter = pin_revision(config.labeler), config.splitter and pin_revision(config.splitter)
    revision = model_revision(labeler)
    settings: dict[str, Any] = {
        "seed": config.seed,
        "labeler": {**config.labeler.identity(), "revision": revision},
        "feedback": {**config.feedback.model_dump(), "prompts": asdict(wording)},
        "max_model_len": config.engine.max_model_len,
    }
    tables = ["claims", "scores", "pairs"]
    if splitter:
        tables.insert(0, "splits")
        settings["splitter"] = {**splitter.identity(), "revision": model_revision(splitter)}
    if not run.begin(tables, settings, inputs=["prompts", "responses"]):
        return
    run.announce(
        f"divides {count_rows(run, 'responses'):,} responses into claims"
        + (f" by {splitter.model}" if splitter else "")
        + f" and asks {labeler.model} about each",
        f"scores them by {config.feedback.score} and makes at most {config.feedback.pairs_per_prompt} pairs a prompt"
        + (", of equal mean lengths" if config.feedback.balance_length else ""),
    )
    kept, cost = {}, Cost()
    if splitter:
        kept["splits"], cost = divide_responses(run, wording, splitter, settings["splitter"]["revision"], open_engine)
    kept |= label_responses(run, wording, labeler, revision, open_engine, cost)
    summary, kept["pairs"] = make_pairs(run)
    for line in summary.lines(config.feedback.min_yes_no_mass):
        print(f"  {line}")
    run.update_metrics(feedback=summary.metrics())
    run.finish(kept, next_command=f"make dpo RUN={path}, with the same CONFIG and SET")


def divide_responses(
    run: Run, wording: LabelerPrompts, model: ModelSection, revision: str, open_engine: OpenEngine
) -> tuple[int, Cost]:
    """Divide, by a model of its own: writes `splits`, one part a chunk of prompts; returns its rows and the cost."""
    config, cost = run.config, Cost()
    with TableWriter(run, "splits", key="prompt_id") as writer:
        if not writer.path.is_file():
            place = EngineSpec(model, config.engine, config.seed, open_engine)
            action = partial(divide, run.path, config, wording, model.model, revision)
            for _, (rows, drops, spent) in map_chunks(place, list(chunks(run, writer.done, ["responses"])), action):
                cost += spent
                record_drops(run, drops)
                writer.write(rows)
                writer.flush()
        return writer.finish(), cost


def label_responses(
    run: Run, wording: LabelerPrompts, model: ModelSection, revision: str, open_engine: OpenEngine, cost: Cost
) -> dict[str, int]:
    """Divide (if no splitter has), conquer, combine: writes `claims` and `scores`, one part a chunk of prompts.

    cost: of dividing, if a splitter has. Returns the row counts.
    """
    config = run.config
    inputs = ["responses", "splits"] if config.splitter else ["responses"]
    scores = TableWriter(run, "scores", key="prompt_id")
    claims = TableWriter(run, "claims", key="prompt_id", until=scores.done)
    if not claims.path.is_file():
        place = EngineSpec(model, config.engine, config.seed, open_engine)
        action = partial(label, run.path, config, wording, revision)
        for _, (labels, spent) in map_chunks(place, list(chunks(run, scores.done, inputs)), action):
            cost += spent
            record_drops(run, labels.drops)
            # Scores go last: a prompt is done when they are in. Killed in between, its claims are made again.
            claims.write(labels.claims)
            claims.flush()
            scores.write(labels.scores)
            scores.flush()
        run.update_metrics(labelling=cost.figures())
    return {"claims": claims.finish(), "scores": scores.finish()}


def make_pairs(run: Run) -> tuple[Summary, int]:
    """Writes `pairs` from `responses`, `claims` and `scores`; returns figures and the number of pairs. No model."""
    settings, seed = run.config.feedback, run.config.seed
    summary = Summary()
    with TableWriter(run, "pairs", key="prompt_id") as writer:
        for prompts, tables in join_parts(
            read_parts(run, "prompts", ["prompt_id", "image", "instruction", "split"]),
            responses=read_parts(run, "responses", ["response_id", "prompt_id", "text", "round"]),
            claims=read_parts(run, "claims", CLAIM_COLUMNS),
            scores=read_parts(run, "scores", ["prompt_id", "response_id", "score", "coverage"]),
        ):
            answers = scored_answers(tables)
            summary.add_answers(answers, settings.min_yes_no_mass)
            places = {response.response_id: place for place, response in enumerate(answers.scored)}
            sampled = np.diff(tables["responses"].starts)
            picked = []
            for row, prompt_id in enumerate(prompts["prompt_id"].to_pylist()):
                if not sampled[row]:
                    continue
                pairs, drops = build_pairs(
                    prompt_id,
                    answers.scored[answers.starts[row] : answers.starts[row + 1]],
                    limit=settings.pairs_per_prompt,
                    seed=int(make_id(str(seed), prompt_id), 16) % 2**31,
                    surplus=summary.extra_words if settings.balance_length else None,
                    min_margin=settings.min_margin,
                )
                record_drops(run, drops)
                for pair in pairs:
                    summary.add_pair(pair)
                if prompt_id not in writer.done:
                    picked += [
                        (row, places[pair.chosen.response_id], places[pair.rejected.response_id]) for pair in pairs
                    ]
            for start in range(0, len(picked), PAIRS_AT_ONCE):
                writer.write_table(pair_rows(prompts, answers, picked[start : start + PAIRS_AT_ONCE]))
        return summary, writer.finish()


def chunks(run: Run, done: set[str], tables: Sequence[str]) -> Iterator[Chunk]:
    """Prompts with responses after the last one that is done, so many at a time; those of one image stay together.

    tables: those whose rows a chunk has, `responses` first.
    Chunks are done in order: a prompt before a done one is done too, even if none of its responses had a score.
    """
    done_ahead = len(done)
    todo = []
    for prompt, rows in join_by_prompt(
        read_located_parts(run, "prompts", ["prompt_id", "image_sha256"]),
        **{table: read_located_parts(run, table, ["prompt_id"]) for table in tables},
    ):
        if prompt["prompt_id"] in done:
            done_ahead -= 1
        elif done_ahead == 0 and rows["responses"]:
            todo.append({**prompt, **rows})
    first = len(done) + 1
    for some in batch_by_image(todo, PROMPTS_PER_CHUNK):
        places = {table: row_locations(row for prompt in some for row in prompt[table]) for table in tables}
        yield Chunk(f"prompts {first:,}-{first + len(some) - 1:,}", {"prompts": row_locations(some), **places})
        first += len(some)


def divide(
    path: Path, config: Config, wording: LabelerPrompts, name: str, revision: str, engine: Engine, chunk: Chunk
) -> tuple[list[dict[str, Any]], list[Drop], Cost]:
    """Rows of `splits` and drops of the responses to some prompts, and what they cost."""
    metered = MeteredEngine(engine)
    responses = read_rows_at(path / "responses.parquet", chunk.tables["responses"], RESPONSE_COLUMNS)
    splits, drops = split_responses(metered, responses, wording, config.feedback, config.seed, chunk.title)
    rows = [
        {
            "response_id": row["response_id"],
            "prompt_id": row["prompt_id"],
            "claims": [asdict(claim) for claim in splits[row["response_id"]].claims],
            "splitter": name,
            "splitter_revision": revision,
        }
        for row in responses
        if row["response_id"] in splits
    ]
    return rows, drops, metered.cost(claims=0)  # they are counted when they are judged


def label(
    path: Path, config: Config, wording: LabelerPrompts, revision: str, engine: Engine, chunk: Chunk
) -> tuple[Labels, Cost]:
    """Claims, scores and drops of the responses to some prompts, and what they cost."""
    metered = MeteredEngine(engine)
    labeler = Labeler(metered, wording, config.feedback, config.seed, config.labeler.model, revision)
    responses = read_rows_at(path / "responses.parquet", chunk.tables["responses"], RESPONSE_COLUMNS)
    by_prompt = {prompt_id: list(rows) for prompt_id, rows in groupby(responses, key=itemgetter("prompt_id"))}
    prompts = [
        Prompt(row["prompt_id"], row["image"]["bytes"], row["image_sha256"], by_prompt[row["prompt_id"]])
        for row in read_rows_at(
            path / "prompts.parquet", chunk.tables["prompts"], ["prompt_id", "image", "image_sha256"]
        )
    ]
    splits = None
    if config.splitter:
        rows = read_rows_at(path / "splits.parquet", chunk.tables["splits"], ["response_id", "claims"])
        splits = {row["response_id"]: Split(tuple(Claim(**claim) for claim in row["claims"])) for row in rows}
    labels = labeler.label(prompts, chunk.title, splits)
    return labels, metered.cost(len(labels.claims))
