"""Reads rows of a table by their location: row group and row within it."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.storage.tables import Row, RunFolder, read_parts

RowLocations = tuple[tuple[int, tuple[int, ...]], ...]  # (row group, rows within it), in order


def read_located_parts(run: RunFolder, table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """As `read_parts`, with two more columns, `group` and `row`: the location of each row."""
    for group, part in enumerate(read_parts(run, table, columns)):
        rows = pa.array(range(part.num_rows), pa.int64())
        yield part.append_column("group", pa.repeat(pa.scalar(group, pa.int64()), part.num_rows)).append_column(
            "row", rows
        )


def row_locations(rows: Iterable[Row]) -> RowLocations:
    """The locations of rows of `read_located_parts`, in order."""
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row["row"])
    return tuple((group, tuple(indices)) for group, indices in groups.items())


def read_rows_at(file: Path, locations: RowLocations, columns: Sequence[str]) -> list[Row]:
    """The rows of a parquet file at these locations."""
    modified = file.stat().st_mtime_ns  # a rewritten file is read again
    groups = (_group(file, modified, group, tuple(columns)).take(rows) for group, rows in locations)
    return [row for group in groups for row in group.to_pylist()]


@lru_cache(maxsize=3)  # one for each of the tables that a chunk reads; the next chunk starts in the same row group
def _group(file: Path, modified: int, group: int, columns: tuple[str, ...]) -> pa.Table:
    with pq.ParquetFile(file, page_checksum_verification=True) as opened:
        return opened.read_row_group(group, columns=list(columns))
