"""The chunks that sampling works on."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import generation.sampling
from rlaif.config import Config
from rlaif.storage.rows import read_located_parts, read_rows_at
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter
from tests.support.small_run import prompt_row

PROMPTS, PART, CHUNK = 400, 20, 8


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run[Config]:
    """400 prompts in parts of 20, of which every fifth is of split test, for chunks of 8."""
    monkeypatch.setattr(generation.sampling, "PROMPTS_PER_CHUNK", CHUNK)
    run = Run(tmp_path, Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}}), "generation")
    run.begin(["prompts", "responses"], {}, inputs=[])
    with TableWriter(run, "prompts", key="prompt_id", part_rows=PART) as writer:
        for index in range(PROMPTS):
            writer.write([prompt_row(f"p{index:03}", "train" if index % 5 else "test")])
    return run


def test_chunks_hold_the_remaining_prompts_in_order(run: Run[Config]) -> None:
    done = {"p001", "p002"}
    chunks = list(generation.sampling.chunks(run, done))
    rows = [read_rows_at(run.path / "prompts.parquet", chunk.tables["prompts"], ["prompt_id"]) for chunk in chunks]
    expected = [f"p{index:03}" for index in range(PROMPTS) if index % 5 and index not in (1, 2)]
    assert [row["prompt_id"] for chunk in rows for row in chunk] == expected
    assert [len(chunk) for chunk in rows] == [CHUNK] * 39 + [6]
    assert chunks[0].num_prompts == 8
    assert chunks[-1].num_prompts == 6


def test_chunks_are_read_as_they_are_needed(run: Run[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    parts = 0

    def counted(run: Run[Config], table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        nonlocal parts
        for part in read_located_parts(run, table, columns):
            parts += 1
            yield part

    monkeypatch.setattr(generation.sampling, "read_located_parts", counted)
    parts_at: list[Any] = []
    for _ in generation.sampling.chunks(run, set()):
        parts_at.append(parts)
    # a chunk of 8 train prompts takes 10 rows, and the first row of the next chunk ends it
    assert parts_at == [min(10 * (index + 1) // PART + 1, PROMPTS // PART) for index in range(40)]
