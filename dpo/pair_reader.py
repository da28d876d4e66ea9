"""The pairs of a run as DPO reads them: a small data set of row locations, and pairs.parquet behind it.

TRL batches a data set with a few bytes per pair: pair_id, group, row, and the number of its prompt. The pairs of a
batch are read from pairs.parquet when they are needed, so that no image is copied into a cache of `datasets`. To read a
row is to read its row group, which is why `feedback` writes `pairs` in small ones.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset

from dpo.collator import Collator, Row
from dpo.sampler import in_batches
from rlaif.errors import InputError
from rlaif.storage.files import atomic_write
from rlaif.storage.rows import read_located_parts
from rlaif.storage.run import Run

PAIR_COLUMNS = ["images", "prompt", "chosen", "rejected"]
LOCATION_COLUMNS = ["pair_id", "group", "row"]
PROMPT = "prompt"  # the column of the prompt's number: pairs of one image and instruction have the same
ROW_GROUPS_IN_MEMORY = 8  # in each process that reads; a small run has no more


def locate_pairs(run: Run[Any], split: str, collator: Collator, batch_size: int | None = None) -> Dataset:
    """The locations of the usable pairs of a split; the other pairs are dropped with their reason.

    batch_size: of a pass in this order, which brings the pairs of a prompt into one batch; None: that of the table.
    Errors: InputError if the split has no pairs, or none that is usable.
    """
    usable: list[pa.Table] = []
    count, last_problem = 0, None
    numbers: dict[str, int] = {}  # of prompts
    for part in read_located_parts(run, "pairs", ["pair_id", "prompt_id", "split", *PAIR_COLUMNS]):
        part = part.filter(pc.equal(part["split"], split))
        problems = [collator.unusable(row) for row in part.to_pylist()]
        for pair_id, problem in zip(part["pair_id"].to_pylist(), problems, strict=True):
            if problem:
                run.drop(pair_id, *problem)
                last_problem = problem
        prompts = [numbers.setdefault(prompt_id, len(numbers)) for prompt_id in part["prompt_id"].to_pylist()]
        located = part.select(LOCATION_COLUMNS).append_column(PROMPT, pa.array(prompts, pa.int64()))
        usable.append(located.filter(pa.array([not problem for problem in problems], pa.bool_())))
        count += part.num_rows
    if not count:
        advice = "make a run with more prompts"
        if split == "validation":
            share = "data.validation_share (scenes: data.validation_prompts)"
            advice = f"in a new run, set generation.splits=[train,validation] and {share}"
        raise InputError(f"{run.path}/pairs.parquet has no pairs of split {split!r}; {advice}")
    locations = pa.concat_tables(usable).combine_chunks()
    if not locations.num_rows:
        assert last_problem is not None
        raise InputError(f"none of the {count} pairs of split {split!r} is usable: {': '.join(last_problem)}")
    if batch_size is not None:
        order = in_batches(locations[PROMPT].to_pylist(), range(locations.num_rows), batch_size)
        locations = locations.take(pa.array(order, pa.int64()))
    return _on_disk(locations, run.path / "dpo" / "cache" / f"{split}.arrow")


def _on_disk(table: pa.Table, file: Path) -> Dataset:
    """The table as a data set with a file behind it, beside which TRL caches log-probs of the reference.

    An equal file of an earlier try stays: its modification time is part of the key of that cache.
    """
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_stream(buffer, table.schema) as stream:
        stream.write_table(table)
    content = buffer.getvalue().to_pybytes()
    if not file.is_file() or file.read_bytes() != content:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            temporary.write_bytes(content)
    return Dataset.from_file(str(file))


@dataclass(frozen=True)
class PairReader:
    """Reads pairs at their locations; can be used in the worker processes of a DataLoader."""

    file: Path

    def __call__(self, locations: Sequence[Row]) -> list[Row]:
        """Rows with `PAIR_COLUMNS` for rows with group and row."""
        modified = self.file.stat().st_mtime_ns
        return [
            row
            for location in locations
            for row in _row_group(self.file, modified, os.getpid(), location["group"])
            .slice(location["row"], 1)
            .to_pylist()
        ]


@lru_cache(maxsize=ROW_GROUPS_IN_MEMORY)
def _row_group(file: Path, modified: int, process: int, group: int) -> pa.Table:
    return _open(file, modified, process).read_row_group(group, columns=PAIR_COLUMNS, use_threads=False)


@lru_cache(maxsize=1)
def _open(file: Path, modified: int, process: int) -> pq.ParquetFile:
    """A handle for each process: a forked one must not share that of its parent."""
    return pq.ParquetFile(file, page_checksum_verification=True)
