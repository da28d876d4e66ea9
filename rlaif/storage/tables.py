"""The tables of a run, read back as a stream; `rlaif.storage.schemas` has their columns.

A finished table is one file, `runs/<name>/<table>.parquet`. While its stage runs, its rows lie in
`<table>.parts/part-00000.parquet` and so on, each written under a temporary name and then renamed, so that a killed
stage leaves whole parts only and goes on from them. `<table>.parts/manifest.json` lists them with the hash of their
bytes: a part that it does not list is made again, one with other bytes is an error. Pages carry checksums, which are
verified whenever a table is read. Every file carries in its metadata, under `rlaif`, what made it (`Run.provenance`),
and under `huggingface` the features by which `datasets` shows images as images.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlaif.errors import InputError
from rlaif.storage.schemas import MADE_BY, SCHEMAS


class RunFolder(Protocol):
    """What tables need to know of a run."""

    path: Path

    def provenance(self, table: str) -> dict[str, Any]:
        """What goes into the metadata of a table."""


def read_parts(run: RunFolder, table: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """A finished table, one part at a time in memory; of an empty table an empty part.

    `columns` picks columns (None = all).
    Errors: InputError if the table is missing (with the command that makes it), damaged, or lacks a column.
    """
    names = list(SCHEMAS[table].names if columns is None else columns)
    with _open(run, table) as file:
        for name in names:
            if name not in file.schema_arrow.names:
                raise InputError(
                    f"{run.path / table}.parquet has no column {name!r}; it has: {', '.join(file.schema_arrow.names)}"
                )
        for group in range(file.num_row_groups):
            try:
                part = file.read_row_group(group, columns=names)
            except OSError as error:  # a page's checksum is another
                raise _damaged(run, table, error) from error
            yield part.select(names)
        if file.num_row_groups == 0:
            yield file.schema_arrow.empty_table().select(names)


def read_rows(
    run: RunFolder, table: str, columns: Sequence[str] | None = None, filter: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a finished table, one part at a time in memory.

    `columns` picks columns (None = all); `filter` maps columns, which may be others, to the value they must equal, or
    to a list of values of which they must have one. Errors: as `read_parts`.
    """
    names = list(SCHEMAS[table].names if columns is None else columns)
    equal = dict(filter or {})
    for part in read_parts(run, table, [*dict.fromkeys([*names, *equal])]):
        for name, value in equal.items():
            wanted = pa.array(value if isinstance(value, list) else [value])
            part = part.filter(pc.is_in(part[name], value_set=wanted))
        yield from part.select(names).to_pylist()


def count_rows(run: RunFolder, table: str) -> int:
    """The number of rows of a finished table. Errors: as `read_rows`."""
    with _open(run, table) as file:
        return file.metadata.num_rows


def read_metadata(run: RunFolder, table: str) -> dict[str, Any]:
    """What made a finished table: the JSON under `rlaif` in its metadata. Errors: as `read_rows`."""
    _open(run, table).close()
    return read_provenance(run.path / f"{table}.parquet")


def _open(run: RunFolder, table: str) -> pq.ParquetFile:
    path = run.path / f"{table}.parquet"
    if not path.is_file():
        raise InputError(f"{path} is missing; first run `{MADE_BY[table]} RUN={run.path}` with the same CONFIG and SET")
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except pa.ArrowInvalid as error:
        raise _damaged(run, table, error) from error


def _damaged(run: RunFolder, table: str, error: Exception) -> InputError:
    return InputError(
        f"{run.path / table}.parquet is damaged ({error}); delete it and run `{MADE_BY[table]} RUN={run.path}` again"
    )


def read_provenance(file: Path) -> dict[str, Any]:
    metadata = pq.read_schema(file).metadata or {}
    if b"rlaif" not in metadata:
        raise InputError(
            f"{file} was not written by this project (no `rlaif` metadata); move it away and make it again"
        )
    return json.loads(metadata[b"rlaif"])
