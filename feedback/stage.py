"""Divide responses into claims, verify each claim, score the responses and choose preference pairs.

    python -m feedback --config configs/demo.yaml --run runs/demo

Reads `prompts` (never its column `reference`: only `evaluation` may know the truth) and `responses`, and writes

    splits   one row per divided response; only if `splitter` names a separate model for this step
    claims   one row per claim: claim, question, outcome (asked, restated or unknown), p_yes, p_no, p_other, verdict
    scores   one row per scored response: number of claims, and of rejected, restated and unknown ones, score and its
             bounds, coverage (share of its content words that the claims mention), and the score of the response
             verified as a whole
    pairs    one row per preference pair in TRL's conversational format, with the claims behind it
    dropped  everything else, with its reason

A stopped stage resumes from what is on disk.
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
from feedback.first_difference import build_first_differences
from feedback.labeler import Labeler, Labels, Prompt, record_drops, split_responses
from feedback.labeler_prompts import LabelerPrompts, read_prompts
from feedback.pair import Drop, Pair, build_pairs
from feedback.pair_table import ScoredResponses, pair_rows, scored_responses, with_claims
from feedback.summary import Summary
from feedback.verify import verify
from rlaif.config import Config, FeedbackSection, ModelSection
from rlaif.inference.engine import Engine, OpenEngine
from rlaif.inference.first_answers import LEAST, QUESTIONS, open_checked
from rlaif.inference.metering import Cost, MeteredEngine
from rlaif.inference.open import open_engine
from rlaif.inference.revision import pin_model
from rlaif.inference.work.chunks import Chunk, EngineSpec, batch_by_image
from rlaif.inference.work.mapping import map_chunks
from rlaif.inference.work.workers import Use
from rlaif.storage.files import make_id
from rlaif.storage.join import join_by_prompt, join_parts
from rlaif.storage.rows import read_located_parts, read_rows_at, row_locations
from rlaif.storage.run import Run
from rlaif.storage.tables import count_rows, read_parts
from rlaif.storage.writer import TableWriter
from rlaif.text import clean

PROMPTS_PER_CHUNK = 128  # labeled, then written: bounds memory, and the work that a kill loses
ROW_GROUP_BYTES = 4 * 2**20  # DPO reads `pairs` at random, a row group for each row
PAIRS_PER_BATCH = 250  # bounds memory: each row of `pairs` has its image
RESPONSE_COLUMNS = ["response_id", "prompt_id", "text", "finish_reason", "num_tokens"]
CLAIM_COLUMNS = ["prompt_id", "response_id", "claim", "question", "outcome", "p_yes", "p_no", "p_other", "verdict"]
SCORE_COLUMNS = ["prompt_id", "response_id", "score", "score_low", "score_high", "coverage"]


def feedback(config: Config, path: Path, open_engine: OpenEngine = open_engine) -> None:
    """Run the stage. Errors: RlaifError for anything that the user can fix."""
    run = Run(path, config, "feedback")
    labeler_prompts = read_prompts(config.feedback.prompts)
    labeler, revision = pin_model(config.labeler)
    settings: dict[str, Any] = {
        "seed": config.seed,
        "labeler": {**config.labeler.identity(), "revision": revision},
        "feedback": {**config.feedback.model_dump(), "prompts": asdict(labeler_prompts)},
        **config.engine.identity(),
    }
    tables = ["claims", "scores", "pairs"]
    splitter: ModelSection | None = None
    if config.splitter:
        tables.insert(0, "splits")
        splitter, splitter_revision = pin_model(config.splitter)
        settings["splitter"] = {**splitter.identity(), "revision": splitter_revision}
    if not run.begin(tables, settings, inputs=["prompts", "responses"]):
        return
    run.announce(
        f"divides {count_rows(run, 'responses'):,} responses into claims"
        + (f" by {splitter.model}" if splitter else "")
        + f" and verifies each claim with {labeler.model}",
        f"scores responses by {config.feedback.score} and chooses at most {config.feedback.pairs_per_prompt} pairs "
        "per prompt" + (", with equal mean lengths" if config.feedback.balance_length else ""),
    )
    kept, cost, use = {}, Cost(), Use()
    if splitter:
        if not any((path / f"splits.{kind}").exists() for kind in ("parts", "parquet")):
            try_labeler(run, labeler_prompts, labeler, open_engine)
        kept["splits"], cost = divide_responses(
            run, labeler_prompts, splitter, settings["splitter"]["revision"], open_engine, use
        )
    kept |= label_responses(run, labeler_prompts, labeler, revision, open_engine, cost, use)
    summary, kept["pairs"] = make_pairs(run)
    summary.lost = sum(reason == "all_claims_unknown" for reason in run.dropped().values())
    for line in summary.lines(config.feedback.min_yes_no_mass):
        print(f"  {line}")
    run.update_metrics(feedback=summary.metrics())
    run.finish(kept, f"make dpo RUN={path}, with the same CONFIG and SET" if kept["pairs"] else None)


def try_labeler(run: Run, labeler_prompts: LabelerPrompts, model: ModelSection, open_engine: OpenEngine) -> None:
    """Before the splitter divides everything, see whether the labeler can judge; its verdicts are not kept.

    Errors: ModelError where it cannot (`rlaif.inference.first_answers`).
    """
    config = run.config
    chunk = next(chunks(run, set(), ["responses"]), None)
    if chunk is None or sum(len(rows) for _, rows in chunk.tables["responses"]) < LEAST:
        return
    checked = partial(open_checked, open_engine, "labeler", config.feedback.min_yes_no_mass)
    spec = EngineSpec(model, config.engine, config.seed, checked)
    action = partial(try_chunk, run.path, config, labeler_prompts)
    for _ in map_chunks(spec, [chunk], action, "first questions", chunk.num_prompts, 0):
        pass


def divide_responses(
    run: Run, labeler_prompts: LabelerPrompts, model: ModelSection, revision: str, open_engine: OpenEngine, use: Use
) -> tuple[int, Cost]:
    """Divide with the splitter: write `splits`, one part per chunk. Returns its number of rows, and the cost."""
    config, cost = run.config, Cost()
    with TableWriter(run, "splits", key="prompt_id") as writer:
        if not writer.path.is_file():
            checked = partial(open_checked, open_engine, "splitter", config.feedback.min_yes_no_mass)
            spec = EngineSpec(model, config.engine, config.seed, checked)
            action = partial(divide_chunk, run.path, config, labeler_prompts, model.model, revision)
            remaining = count_remaining(run, writer.done, ["responses"])
            todo = chunks(run, writer.done, ["responses"])
            results = map_chunks(spec, todo, action, "splits", remaining, len(writer.done), use)
            for rows, drops, spent in results:
                cost += spent
                record_drops(run, drops)
                writer.write(rows)
                writer.flush()
        return writer.finish(), cost


def label_responses(
    run: Run,
    labeler_prompts: LabelerPrompts,
    model: ModelSection,
    revision: str,
    open_engine: OpenEngine,
    cost: Cost,
    use: Use,
) -> dict[str, int]:
    """Divide (unless a splitter did), verify, score: write `claims` and `scores`, one part per chunk.

    cost, use: what the splitter cost. Returns the row counts.
    """
    config = run.config
    inputs = ["responses", "splits"] if config.splitter else ["responses"]
    scores = TableWriter(run, "scores", key="prompt_id")
    claims = TableWriter(run, "claims", key="prompt_id", limit_to=scores.done)
    if not claims.path.is_file():
        min_mass = 0.0 if scores.done else config.feedback.min_yes_no_mass  # the labeler of written rows could judge
        checked = partial(open_checked, open_engine, "labeler", min_mass)
        spec = EngineSpec(model, config.engine, config.seed, checked)
        action = partial(label_chunk, run.path, config, labeler_prompts, revision)
        remaining = count_remaining(run, scores.done, inputs)
        todo = chunks(run, scores.done, inputs)
        for labels, spent in map_chunks(spec, todo, action, "labels", remaining, len(scores.done), use):
            cost += spent
            record_drops(run, labels.drops)
            # Scores are written last and mark a prompt as done: after a kill in between, its claims are written again.
            claims.write(labels.claims)
            claims.flush()
            scores.write(labels.scores)
            scores.flush()
        run.update_metrics(labeling=cost.figures() | use.figures())
    return {"claims": claims.finish(), "scores": scores.finish()}


def make_pairs(run: Run) -> tuple[Summary, int]:
    """Write `pairs` from `responses`, `claims` and `scores`. Returns statistics and the number of pairs."""
    settings, seed = run.config.feedback, run.config.seed
    summary = Summary()
    with TableWriter(run, "pairs", key="prompt_id", row_group_bytes=ROW_GROUP_BYTES) as writer:
        for prompts, tables in join_parts(
            read_parts(run, "prompts", ["prompt_id", "image", "instruction", "split"]),
            responses=read_parts(run, "responses", ["response_id", "prompt_id", "text", "round"]),
            claims=read_parts(run, "claims", CLAIM_COLUMNS),
            scores=read_parts(run, "scores", SCORE_COLUMNS),
        ):
            responses = scored_responses(tables)
            summary.add_responses(responses, settings.min_yes_no_mass)
            num_responses = np.diff(tables["responses"].starts)
            picked: list[tuple[int, Pair]] = []
            for row, prompt_id in enumerate(prompts["prompt_id"].to_pylist()):
                if not num_responses[row]:
                    continue
                pairs, drops = prompt_pairs(
                    prompt_id, responses, row, settings, seed, summary.extra_words if settings.balance_length else None
                )
                record_drops(run, drops)
                for pair in pairs:
                    summary.add_pair(pair)
                if prompt_id not in writer.done:
                    picked += [(row, pair) for pair in pairs]
            for batch in batches_of_whole_prompts(picked):
                writer.write_table(pair_rows(prompts, responses, batch))
        return summary, writer.finish()


def prompt_pairs(
    prompt_id: str, responses: ScoredResponses, row: int, settings: FeedbackSection, seed: int, surplus: int | None
) -> tuple[list[Pair], list[Drop]]:
    """The pairs of the prompt in this row by the rule `feedback.pairs`, and what was dropped."""
    start, end = responses.starts[row : row + 2]
    limit, seed = settings.pairs_per_prompt, int(make_id(str(seed), prompt_id), 16) % 2**31
    if settings.pairs == "first_difference":
        claims = [with_claims(responses, index) for index in range(start, end)]
        return build_first_differences(prompt_id, claims, limit=limit, seed=seed, surplus=surplus)
    scored = responses.scored[start:end]
    return build_pairs(prompt_id, scored, limit=limit, seed=seed, surplus=surplus, min_margin=settings.min_margin)


def batches_of_whole_prompts(picked: Sequence[tuple[int, Pair]]) -> Iterator[list[tuple[int, Pair]]]:
    """Pairs with the row of their prompt in batches of about PAIRS_PER_BATCH.

    A prompt is done once one of its pairs is on disk, so its pairs must be written together.
    """
    batch: list[tuple[int, Pair]] = []
    for _, pairs in groupby(picked, key=itemgetter(0)):
        if len(batch) >= PAIRS_PER_BATCH:
            yield batch
            batch = []
        batch += pairs
    if batch:
        yield batch


def chunks(run: Run, done: set[str], tables: Sequence[str]) -> Iterator[Chunk]:
    """The remaining prompts in chunks; the prompts of one image stay in one chunk, so that they share its caches.

    tables: those whose rows a chunk locates, `responses` first.
    """
    for batch in batch_by_image(remaining_prompts(run, done, tables), PROMPTS_PER_CHUNK):
        locations = {table: row_locations(row for prompt in batch for row in prompt[table]) for table in tables}
        yield Chunk(len(batch), {"prompts": row_locations(batch), **locations})


def count_remaining(run: Run, done: set[str], tables: Sequence[str]) -> int:
    """Number of `remaining_prompts`. Detects tables that do not fit each other before a model is loaded."""
    return sum(1 for _ in remaining_prompts(run, done, tables))


def remaining_prompts(run: Run, done: set[str], tables: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The prompts that still have to be processed: they have responses and come after the last one that is done.

    Each has the locations of its rows in `tables`. Chunks are done in order: a prompt before a done one is done too,
    even if none of its responses has a score.
    """
    done_ahead = len(done)
    for prompt, rows in join_by_prompt(
        read_located_parts(run, "prompts", ["prompt_id", "image_sha256"]),
        **{table: read_located_parts(run, table, ["prompt_id"]) for table in tables},
    ):
        if prompt["prompt_id"] in done:
            done_ahead -= 1
        elif done_ahead == 0 and rows["responses"]:
            yield {**prompt, **rows}


async def divide_chunk(
    path: Path, config: Config, labeler_prompts: LabelerPrompts, name: str, revision: str, engine: Engine, chunk: Chunk
) -> tuple[list[dict[str, Any]], list[Drop], Cost]:
    """Rows of `splits` and drops of the responses to the prompts of a chunk, and the cost."""
    metered = MeteredEngine(engine)
    responses = read_rows_at(path / "responses.parquet", chunk.tables["responses"], RESPONSE_COLUMNS)
    prompts = read_rows_at(path / "prompts.parquet", chunk.tables["prompts"], ["prompt_id", "instruction"])
    instructions = {row["prompt_id"]: row["instruction"] for row in prompts}
    answers = ((instructions[row["prompt_id"]], row) for row in responses)
    splits, drops = await split_responses(metered, answers, labeler_prompts, config.feedback, config.seed)
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
    return rows, drops, metered.cost(claims=0)  # counted when they are verified


async def try_chunk(path: Path, config: Config, labeler_prompts: LabelerPrompts, engine: Engine, chunk: Chunk) -> None:
    """Ask about the first responses to the prompts of a chunk as wholes."""
    prompts = read_prompts_of(path, chunk)
    requests = [
        (prompt.image_sha256, labeler_prompts.format_whole(clean(prompt.instruction), clean(row["text"])))
        for prompt in prompts
        for row in prompt.responses
    ]
    images = {prompt.image_sha256: prompt.image for prompt in prompts}
    await verify(engine, requests[:QUESTIONS], images, config.feedback.answers)


async def label_chunk(
    path: Path, config: Config, labeler_prompts: LabelerPrompts, revision: str, engine: Engine, chunk: Chunk
) -> tuple[Labels, Cost]:
    """Claims, scores and drops of the responses to the prompts of a chunk, and the cost."""
    metered = MeteredEngine(engine)
    labeler = Labeler(metered, labeler_prompts, config.feedback, config.seed, config.labeler.model, revision)
    prompts = read_prompts_of(path, chunk)
    splits = None
    if config.splitter:
        rows = read_rows_at(path / "splits.parquet", chunk.tables["splits"], ["response_id", "claims"])
        splits = {row["response_id"]: Split(tuple(Claim(**claim) for claim in row["claims"])) for row in rows}
    labels = await labeler.label(prompts, splits)
    return labels, metered.cost(len(labels.claims))


def read_prompts_of(path: Path, chunk: Chunk) -> list[Prompt]:
    """The prompts of a chunk with their responses."""
    responses = read_rows_at(path / "responses.parquet", chunk.tables["responses"], RESPONSE_COLUMNS)
    by_prompt = {prompt_id: list(rows) for prompt_id, rows in groupby(responses, key=itemgetter("prompt_id"))}
    return [
        Prompt(
            row["prompt_id"],
            row["instruction"],
            row["image"]["bytes"],
            row["image_sha256"],
            by_prompt[row["prompt_id"]],
        )
        for row in read_rows_at(
            path / "prompts.parquet", chunk.tables["prompts"], ["prompt_id", "instruction", "image", "image_sha256"]
        )
    ]
