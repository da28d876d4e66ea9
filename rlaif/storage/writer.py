"""Writes tables in parts, so that a killed stage resumes from what is on disk."""

import json
import shutil
from collections.abc import Container, Iterable
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.errors import InputError, RunMismatchError
from rlaif.storage.files import atomic_write, read_json, sha256_of, write_json
from rlaif.storage.schemas import NULLABLE, SCHEMAS
from rlaif.storage.tables import Row, RunFolder, read_provenance

ROWS_AT_ONCE = 10_000  # small rows that are held in memory
PART_BYTES = 128 * 2**20  # a part of this size is written, so that images do not pile up in memory
DICTIONARY_BYTES = 512 * 2**20  # more than the images of a row group, so that each is stored once


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Opens a parquet file for writing, with checksums; equal images of a row group are stored once.

    Parquet stores the distinct values of a column in a dictionary, but by default gives up at 1 MB of them.
    """
    return pq.ParquetWriter(path, schema, write_page_checksum=True, dictionary_pagesize_limit=DICTIONARY_BYTES)


class TableWriter:
    """Writes one table of a run in parts; a context manager, which keeps the parts for the next attempt on an error.

    key: the column, or columns, whose values in the written parts are `done` when a stage resumes (about 100 bytes a
    value; empty in a stage that was not interrupted). `write` takes whole groups: all rows of a key.
    limit_to: the keys in a table that is written after this one. The first part with other keys, and all parts after
    it, are written again.
    row_group_bytes: most bytes in a row group of the final file, for tables that are read at random; None: a group for
    each part.
    """

    def __init__(
        self,
        run: RunFolder,
        table: str,
        *,
        key: str | tuple[str, ...],
        limit_to: Container[Any] | None = None,
        part_rows: int = 2000,
        row_group_bytes: int | None = None,
    ) -> None:
        self.path = run.path / f"{table}.parquet"
        self.parts = run.path / f"{table}.parts"
        self.part_rows = part_rows
        self.row_group_bytes = row_group_bytes
        self._table = table
        self._columns = set(SCHEMAS[table].names)
        provenance = run.provenance(table)
        self._schema = _schema_with(table, provenance)
        self._pending: list[pa.Table] = []  # written since the last part
        self._rows = self._bytes = 0  # of _pending
        self._finished = self.path.is_file()  # the stage was interrupted after it had finished this table
        self._manifest = {} if self._finished else self._read_manifest()
        self.done: set[Any] = set()
        for file in [self.path] if self._finished else [self.parts / name for name in list(self._manifest)]:
            if read_provenance(file)["identity"] != provenance["identity"]:
                raise RunMismatchError(
                    f"{file} was made with other settings; use another RUN=, or delete {run.path} to start over"
                )
            keys = _distinct(file, key)
            if limit_to is not None and not self._finished and not all(value in limit_to for value in keys):
                self._remove_from(file.name)
                break
            self.done |= keys

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()

    def write(self, rows: Iterable[Row]) -> None:
        """Add whole groups of rows with exactly the columns of the schema; only columns in NULLABLE take None."""
        rows = list(rows)
        for row in rows:
            if row.keys() != self._columns:
                missing, unknown = sorted(self._columns - row.keys()), sorted(row.keys() - self._columns)
                raise ValueError(f"row of table {self._table}: missing columns {missing}, unknown columns {unknown}")
        if rows:
            self.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def write_table(self, rows: pa.Table) -> None:
        """As `write`, for a table with the columns of the schema in its order."""
        if not rows.num_rows:
            return
        assert not self._finished, f"{self.path} is finished; rows whose key is in `done` must not be written again"
        rows = rows.cast(self._schema)
        for name, column in zip(self._schema.names, rows.columns, strict=True):
            if column.null_count and (self._table, name) not in NULLABLE:
                raise ValueError(f"row of table {self._table}: column {name!r} is None; it needs a value")
        self._pending.append(rows)
        self._rows += rows.num_rows
        self._bytes += rows.nbytes
        if self._rows >= self.part_rows or self._bytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the pending rows as one part, which survives a kill."""
        if not self._pending:
            return
        self.parts.mkdir(parents=True, exist_ok=True)
        part = self.parts / f"part-{len(self._manifest):05d}.parquet"
        with atomic_write(part) as temporary:
            with parquet_writer(temporary, self._schema) as writer:
                writer.write_table(pa.concat_tables(self._pending))
            digest = sha256_of(temporary)
        self._write_manifest({**self._manifest, part.name: digest})
        self._pending = []
        self._rows = self._bytes = 0

    def finish(self) -> int:
        """Join the parts into the final file and remove them. Returns the number of rows."""
        if not self._finished:
            self.flush()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as temporary, parquet_writer(temporary, self._schema) as writer:
                for name in self._manifest:
                    part = pq.ParquetFile(self.parts / name, page_checksum_verification=True).read()
                    groups = -(-part.nbytes // self.row_group_bytes) if self.row_group_bytes else 1
                    writer.write_table(part.cast(self._schema), row_group_size=max(1, part.num_rows // groups))
            self._finished = True
        shutil.rmtree(self.parts, ignore_errors=True)
        return int(pq.read_metadata(self.path).num_rows)

    def _read_manifest(self) -> dict[str, str]:
        """File name -> SHA-256 of the complete parts, in order. Other files, left by a kill, are removed."""
        manifest = self.parts / "manifest.json"
        listed: dict[str, str] = read_json(manifest) if manifest.is_file() else {}
        for file in self.parts.glob("*"):
            if file.name not in listed and file != manifest:
                file.unlink()
        for name, digest in listed.items():
            file = self.parts / name
            if not file.is_file() or sha256_of(file) != digest:
                raise InputError(
                    f"{file} is missing, or its bytes have changed since it was written; restore it, or delete "
                    f"{self.parts} to write those rows again"
                )
        return listed

    def _write_manifest(self, parts: dict[str, str]) -> None:
        self._manifest = parts
        write_json(self.parts / "manifest.json", parts)

    def _remove_from(self, first: str) -> None:
        """Remove a part and those after it, from the manifest before the files."""
        names = list(self._manifest)
        removed = names[names.index(first) :]
        self._write_manifest({name: self._manifest[name] for name in names if name not in removed})
        for name in removed:
            (self.parts / name).unlink()


def replace_table(run: RunFolder, table: str, rows: Iterable[Row]) -> None:
    """Write a whole table, replacing the current one, from which `rows` may be read."""
    schema = _schema_with(table, run.provenance(table))
    rows = iter(rows)
    with (
        atomic_write(run.path / f"{table}.parquet") as temporary,
        parquet_writer(temporary, schema) as writer,
    ):
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def _schema_with(table: str, provenance: dict[str, Any]) -> pa.Schema:
    return SCHEMAS[table].with_metadata({**SCHEMAS[table].metadata, b"rlaif": json.dumps(provenance).encode()})


def _distinct(file: Path, key: str | tuple[str, ...]) -> set[Any]:
    """The distinct values of a column, or tuples of several columns, one row group at a time in memory."""
    names = [key] if isinstance(key, str) else list(key)
    values: set[Any] = set()
    with pq.ParquetFile(file, page_checksum_verification=True) as opened:
        for group in range(opened.num_row_groups):
            columns = opened.read_row_group(group, columns=names)
            distinct = [column.to_pylist() for column in columns.group_by(names).aggregate([]).select(names).columns]
            values.update(distinct[0] if isinstance(key, str) else zip(*distinct, strict=True))
    return values
