"""Where rows stand in a table, and reading them from there."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.storage.run import Run
from rlaif.storage.tables import read_parts

Row = dict[str, Any]


RowLocations = tuple[tuple[int, tuple[int, ...]], ...]  # rows of a table, in order: (row group, its rows)


def read_located_parts(run: Run, table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The parts of a table with two columns more, `group` and `row`: where each row stands."""
    for group, part in enumerate(read_parts(run, table, columns)):
        rows = pa.array(range(part.num_rows), pa.int64())
        yield part.append_column("group", pa.repeat(pa.scalar(group, pa.int64()), part.num_rows)).append_column(
            "row", rows
        )


def row_locations(rows: Iterable[Row]) -> RowLocations:
    """Where rows of `read_located_parts` stand."""
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row["row"])
    return tuple((group, tuple(found)) for group, found in groups.items())


def read_rows_at(file: Path, places: RowLocations, columns: Sequence[str]) -> list[Row]:
    """The rows that stand there."""
    changed = file.stat().st_mtime_ns  # a file made anew is another
    groups = (_group(file, changed, group, tuple(columns)).take(rows) for group, rows in places)
    return [row for group in groups for row in group.to_pylist()]


@lru_cache(maxsize=3)  # one for each table that is read from; the next chunk begins where the last one ended
def _group(file: Path, changed: int, group: int, columns: tuple[str, ...]) -> pa.Table:
    with pq.ParquetFile(file, page_checksum_verification=True) as opened:
        return opened.read_row_group(group, columns=list(columns))
