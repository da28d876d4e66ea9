"""Work on some prompts at a time by an engine: here, or by many engines on a Ray cluster (`engine.backend: ray`).

What is handed out is where rows stand, not the rows: whoever does the work reads them from the run folder, so that no
image passes through the process that hands out and writes. On several machines the run folder must be the same for all.
Results come back in the order of the chunks, whoever did them, so that tables are the same as from one engine.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.config import EngineSection, ModelSection
from rlaif.engine import Engine, OpenEngine
from rlaif.run import Run
from rlaif.tables import read_parts

Row = dict[str, Any]
Places = tuple[tuple[int, tuple[int, ...]], ...]  # rows of a table, in order: (row group, its rows)


@dataclass(frozen=True)
class Chunk:
    """Some prompts, and where their rows stand in each table."""

    title: str
    tables: dict[str, Places]


@dataclass(frozen=True)
class Workplace:
    """The model that works, and how it is served."""

    model: ModelSection
    engine: EngineSection
    seed: int
    open_engine: OpenEngine


def work(
    place: Workplace, chunks: Sequence[Chunk], action: Callable[[Engine, Chunk], Any]
) -> Iterator[tuple[Chunk, Any]]:
    """Each chunk with what `action` makes of it, in order. No engine is opened for no chunks."""
    if not chunks:
        return
    if place.engine.backend == "ray":
        from rlaif.cluster import work_on_ray

        yield from work_on_ray(place, chunks, action)
        return
    with closing(place.open_engine(place.model, place.engine, place.seed)) as engine:
        for chunk in chunks:
            yield chunk, action(engine, chunk)


def placed(run: Run, table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The parts of a table with two columns more, `group` and `row`: where each row stands."""
    for group, part in enumerate(read_parts(run, table, columns)):
        rows = pa.array(range(part.num_rows), pa.int64())
        yield part.append_column("group", pa.repeat(pa.scalar(group, pa.int64()), part.num_rows)).append_column(
            "row", rows
        )


def together(rows: Sequence[Row], count: int) -> Iterator[list[Row]]:
    """`count` rows at a time, or more where the last one's image has more: all questions of an image meet one cache."""
    some: list[Row] = []
    for row in rows:
        if len(some) >= count and row["image_sha256"] != some[-1]["image_sha256"]:
            yield some
            some = []
        some.append(row)
    if some:
        yield some


def places_of(rows: Iterable[Row]) -> Places:
    """Where rows of `placed` stand."""
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row["row"])
    return tuple((group, tuple(found)) for group, found in groups.items())


def take(file: Path, places: Places, columns: Sequence[str]) -> list[Row]:
    """The rows that stand there."""
    changed = file.stat().st_mtime_ns  # a file made anew is another
    groups = (_group(file, changed, group, tuple(columns)).take(rows) for group, rows in places)
    return [row for group in groups for row in group.to_pylist()]


@lru_cache(maxsize=3)  # one for each table that is read from; the next chunk begins where the last one ended
def _group(file: Path, changed: int, group: int, columns: tuple[str, ...]) -> pa.Table:
    with pq.ParquetFile(file, page_checksum_verification=True) as opened:
        return opened.read_row_group(group, columns=list(columns))
