"""K responses of the policy to every prompt of `generation.splits`.

Reads the columns prompt_id, image, image_sha256, instruction and split of `prompts`, never `reference`.
Columns written to `responses`: response_id, prompt_id, sample_index, seed, text, finish_reason, num_tokens,
temperature, top_p, policy, policy_revision, round. `seed` belongs to the prompt; response i was sampled with seed + i.
A response that reached max_tokens has finish_reason "length". It is kept, as are empty ones: feedback drops both.
"""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rlaif.config import Config
from rlaif.inference.engine import REFUSALS, Completion, Engine, Request
from rlaif.inference.work.chunks import Chunk, EngineSpec, batch_by_image
from rlaif.inference.work.mapping import map_chunks
from rlaif.inference.work.workers import Use
from rlaif.storage.files import make_id
from rlaif.storage.rows import read_located_parts, read_rows_at, row_locations
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter
from rlaif.text import replace_surrogates

PROMPTS_PER_CHUNK = 200  # sampled, then written: bounds memory, and the work that a kill loses


def sample_responses(run: Run, spec: EngineSpec, policy_revision: str, writer: TableWriter) -> None:
    """Sample responses to the prompts that `writer` has none for. A prompt that the policy cannot take is dropped."""
    action = partial(answer_chunk, run.path, run.config, policy_revision)
    remaining = sum(1 for _ in remaining_prompts(run, writer.done))
    todo, use = chunks(run, writer.done), Use()
    for answered in map_chunks(spec, todo, action, "responses", remaining, len(writer.done), use):
        for prompt_id, rows in answered:
            if isinstance(rows, str):
                run.drop(prompt_id, rows, REFUSALS[rows])
            else:
                writer.write(rows)
        writer.flush()
    run.update_metrics(sampling=use.figures())


def chunks(run: Run, done: set[str]) -> Iterator[Chunk]:
    """The remaining prompts in chunks; the prompts of one image stay in one chunk, so that they share its caches."""
    for batch in batch_by_image(remaining_prompts(run, done), PROMPTS_PER_CHUNK):
        yield Chunk(len(batch), {"prompts": row_locations(batch)})


def remaining_prompts(run: Run, done: set[str]) -> Iterator[dict[str, Any]]:
    """Locations of the prompts of `generation.splits` that are not done, as a stream."""
    splits = run.config.generation.splits
    for part in read_located_parts(run, "prompts", ["prompt_id", "split", "image_sha256"]):
        for row in part.to_pylist():
            if row["split"] in splits and row["prompt_id"] not in done:
                yield row


async def answer_chunk(
    path: Path, config: Config, policy_revision: str, engine: Engine, chunk: Chunk
) -> list[tuple[str, list[dict[str, Any]] | str]]:
    """(prompt_id, rows of `responses`) for each prompt of a chunk; a refusal, one of REFUSALS, instead of rows."""
    prompts = read_rows_at(path / "prompts.parquet", chunk.tables["prompts"], ["prompt_id", "image", "instruction"])
    requests = [response_request(row, config) for row in prompts]
    answered: list[tuple[str, list[dict[str, Any]] | str]] = []
    for prompt, request, completions in zip(
        prompts, requests, await asyncio.gather(*map(engine.answer, requests)), strict=True
    ):
        refusal = completions[0].finish_reason
        rows = response_rows(prompt["prompt_id"], request, completions, config, policy_revision)
        answered.append((prompt["prompt_id"], refusal if refusal in REFUSALS else rows))
    return answered


def response_request(prompt: dict[str, Any], config: Config) -> Request:
    """One request for all K responses to a prompt. Its seed depends on the prompt only, not on other prompts."""
    sampling = config.generation
    return Request(
        text=prompt["instruction"],
        image=prompt["image"]["bytes"],
        n=sampling.num_responses,
        seed=int(make_id(str(config.seed), prompt["prompt_id"]), 16) % 2**31,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
    )


def response_rows(
    prompt_id: str, request: Request, completions: list[Completion], config: Config, policy_revision: str
) -> list[dict[str, Any]]:
    """K rows of `responses` for one prompt."""
    return [
        {
            "response_id": make_id(prompt_id, str(config.round), str(index)),
            "prompt_id": prompt_id,
            "sample_index": index,
            "seed": request.seed,
            "text": replace_surrogates(completion.text),
            "finish_reason": completion.finish_reason,
            "num_tokens": completion.num_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "policy": config.policy.model,
            "policy_revision": policy_revision,
            "round": config.round,
        }
        for index, completion in enumerate(completions)
    ]
