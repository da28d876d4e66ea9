"""Reads the tables of a run as streams; their columns are in `rlaif.storage.schemas`.

A finished table is one file, `runs/<name>/<table>.parquet`. While its stage runs, the rows are in
`<table>.parts/part-00000.parquet` and so on, each written under a temporary name and then renamed: a killed stage
leaves complete parts only, and resumes from them. `<table>.parts/manifest.json` lists the parts with their hashes:
a part that is not listed is written again, a part whose bytes have changed is an error. Pages have checksums, which
are verified on every read. The file metadata holds the provenance under `rlaif` (`Run.provenance`), and under
`huggingface` the features with which `datasets` decodes images.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlaif.errors import InputError
from rlaif.storage.schemas import COMMANDS, SCHEMAS

Row = dict[str, Any]


class RunFolder(Protocol):
    """The part of a run that tables need."""

    path: Path

    def provenance(self, table: str) -> dict[str, Any]:
        """The metadata of a table."""


def read_parts(run: RunFolder, table: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of a finished table, one at a time in memory; one empty part for an empty table.

    columns: the columns to read; None = all.
    Errors: InputError if the table is missing (with the command that writes it), damaged, or lacks a column.
    """
    names = list(SCHEMAS[table].names if columns is None else columns)
    with _open(run, table) as file:
        for name in names:
            if name not in file.schema_arrow.names:
                raise InputError(
                    f"{run.path / table}.parquet has no column {name!r}; it has: {', '.join(file.schema_arrow.names)}; "
                    f"{damage_remedy(run.path, table)}"
                )
        for group in range(file.num_row_groups):
            try:
                part = file.read_row_group(group, columns=names)
            except OSError as error:  # the checksum of a page does not match
                raise _damaged(run, table, error) from error
            yield part.select(names)
        if file.num_row_groups == 0:
            yield file.schema_arrow.empty_table().select(names)


def read_rows(
    run: RunFolder, table: str, columns: Sequence[str] | None = None, filter: Mapping[str, Any] | None = None
) -> Iterator[Row]:
    """The rows of a finished table, one row group at a time in memory.

    columns: the columns to read; None = all.
    filter: column, which need not be in `columns` -> the value it must equal, or a list of allowed values.
    Errors: as `read_parts`.
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
        return int(file.metadata.num_rows)


def read_metadata(run: RunFolder, table: str) -> dict[str, Any]:
    """The provenance of a finished table: the JSON under `rlaif` in its metadata. Errors: as `read_rows`."""
    _open(run, table).close()
    return read_provenance(run.path / f"{table}.parquet")


def has_prompts_of(run: RunFolder, split: str) -> bool:
    """Whether `prompts` is there and has a row of a split. Errors: as `read_rows`."""
    return has_table(run, "prompts") and any(read_rows(run, "prompts", ["prompt_id"], filter={"split": split}))


def answers_are_cut(run: RunFolder) -> bool:
    """Whether the answers of `pairs` end within a response (`feedback.pairs: first_difference`), so that their end is
    not one that a model should learn. Errors: as `read_rows`.
    """
    settings = read_metadata(run, "pairs")["config"].get("feedback", {})
    return bool(settings.get("pairs") == "first_difference")


def _open(run: RunFolder, table: str) -> pq.ParquetFile:
    path = run.path / f"{table}.parquet"
    if not path.is_file():
        if table in ("prompts", "responses") and (run.path / "import.json").is_file():
            raise InputError(
                f"{path} is missing: `make import` writes prompts with pairs or with responses, and {run.path} has no "
                f"{table}; import them into another RUN="
            )
        raise InputError(
            f"{path} is missing; first run `{COMMANDS[table]} RUN={run.path}` with the same CONFIG and SET"
        )
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowInvalid, OSError) as error:  # OSError: its footer cannot be decoded
        raise _damaged(run, table, error) from error


def _damaged(run: RunFolder, table: str, error: Exception) -> InputError:
    problem = " ".join(str(error).split())  # some have several lines
    return InputError(f"{run.path / table}.parquet is damaged ({problem}); {damage_remedy(run.path, table)}")


def damage_remedy(path: Path, table: str) -> str:
    """What to do about a damaged table of the run folder `path`."""
    if table == "audits":  # no command can write people's verdicts again
        return "restore a copy of it, or move it to another folder and keep it there: people's verdicts are in it"
    again = f"delete it and run `{COMMANDS[table]} RUN={path}` again"
    if table in ("claims", "pairs") and (path / "audits.parquet").is_file():
        return f"restore a copy of it, as people's verdicts in audits.parquet count for this table only; or {again}"
    return again


def read_provenance(file: Path) -> dict[str, Any]:
    """The JSON under `rlaif` in the metadata of a parquet file. Errors: InputError if there is none."""
    metadata = pq.read_schema(file).metadata or {}
    if b"rlaif" not in metadata:
        raise InputError(
            f"{file} was not written by this project (no `rlaif` metadata); move it away and run its stage again"
        )
    provenance: dict[str, Any] = json.loads(metadata[b"rlaif"])
    return provenance


def has_table(run: RunFolder, table: str) -> bool:
    """Whether a run folder has a finished table of this name."""
    return (run.path / f"{table}.parquet").is_file()
