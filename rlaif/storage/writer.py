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
from rlaif.storage.files import atomic_write, sha256_of
from rlaif.storage.schemas import NULLABLE, SCHEMAS
from rlaif.storage.tables import RunFolder, read_provenance

ROWS_AT_ONCE = 10_000  # of small rows in memory


PART_BYTES = 128 * 2**20  # a part is written out at this size at the latest, so that images do not pile up in memory


class TableWriter:
    """Writes one table of a run in parts; a context manager. Left by an error, it keeps the parts for the next try.

    `key` names the column, or the columns, by which a resumed stage knows what is `done`, a set of their values (about
    100 bytes each, and none in a stage that was not stopped). `write` takes whole groups: all rows of one key. `until`
    is what is done in another table that is written after this one: parts from the first that has more are made again.
    """

    def __init__(
        self,
        run: RunFolder,
        table: str,
        *,
        key: str | tuple[str, ...],
        until: Container[Any] | None = None,
        part_rows: int = 2000,
    ) -> None:
        self.path = run.path / f"{table}.parquet"
        self.parts = run.path / f"{table}.parts"
        self.part_rows = part_rows
        self._table = table
        self._columns = set(SCHEMAS[table].names)
        provenance = run.provenance(table)
        self._schema = _schema_with(table, provenance)
        self._written: list[pa.Table] = []  # since the last part
        self._rows = self._bytes = 0  # in _written
        self._finished = self.path.is_file()  # the stage was stopped after this table and before its end
        self._listed = {} if self._finished else self._read_manifest()
        self.done: set[Any] = set()
        for file in [self.path] if self._finished else [self.parts / name for name in list(self._listed)]:
            if read_provenance(file)["identity"] != provenance["identity"]:
                raise RunMismatchError(
                    f"{file} was made with other settings; use another RUN=, or delete {run.path} to start over"
                )
            keys = _distinct(file, key)
            if until is not None and not self._finished and not all(one in until for one in keys):
                self._forget(file.name)
                break
            self.done |= keys

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add a whole group of rows. Every column must be given and no other; only those in NULLABLE take None."""
        rows = list(rows)
        for row in rows:
            if row.keys() != self._columns:
                missing, unknown = sorted(self._columns - row.keys()), sorted(row.keys() - self._columns)
                raise ValueError(f"row of table {self._table}: missing columns {missing}, unknown columns {unknown}")
        if rows:
            self.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def write_table(self, rows: pa.Table) -> None:
        """As `write`, with the columns of the schema in its order."""
        if not rows.num_rows:
            return
        assert not self._finished, f"{self.path} is finished; rows whose key is in `done` must not be written again"
        rows = rows.cast(self._schema)
        for name, column in zip(self._schema.names, rows.columns, strict=True):
            if column.null_count and (self._table, name) not in NULLABLE:
                raise ValueError(f"row of table {self._table}: column {name!r} is None; it needs a value")
        self._written.append(rows)
        self._rows += rows.num_rows
        self._bytes += rows.nbytes
        if self._rows >= self.part_rows or self._bytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the collected rows as one part; they survive from here on."""
        if not self._written:
            return
        self.parts.mkdir(parents=True, exist_ok=True)
        part = self.parts / f"part-{len(self._listed):05d}.parquet"
        with atomic_write(part) as temporary:
            pq.write_table(pa.concat_tables(self._written), temporary, write_page_checksum=True)
            digest = sha256_of(temporary)
        self._list({**self._listed, part.name: digest})
        self._written = []
        self._rows = self._bytes = 0

    def finish(self) -> int:
        """Join the parts into the final file and remove them. Returns the number of rows; a second call only counts."""
        if not self._finished:
            self.flush()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with (
                atomic_write(self.path) as temporary,
                pq.ParquetWriter(temporary, self._schema, write_page_checksum=True) as writer,
            ):
                for name in self._listed:
                    part = pq.ParquetFile(self.parts / name, page_checksum_verification=True).read()
                    writer.write_table(part.cast(self._schema))
            self._finished = True
        shutil.rmtree(self.parts, ignore_errors=True)
        return pq.read_metadata(self.path).num_rows

    def _read_manifest(self) -> dict[str, str]:
        """File name -> SHA-256 of the parts that are there, in order. What a kill left beside them goes."""
        manifest = self.parts / "manifest.json"
        listed: dict[str, str] = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
        for file in self.parts.glob("*"):
            if file.name not in listed and file != manifest:
                file.unlink()
        for name, digest in listed.items():
            file = self.parts / name
            if not file.is_file() or sha256_of(file) != digest:
                raise InputError(
                    f"{file} is not what was written (its bytes have changed, or it is gone); put it back, or delete "
                    f"{self.parts} to make those rows again"
                )
        return listed

    def _list(self, parts: dict[str, str]) -> None:
        self._listed = parts
        with atomic_write(self.parts / "manifest.json") as temporary:
            temporary.write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")

    def _forget(self, first: str) -> None:
        """Leave out a part and those after it; they are off the list before they are off the disk."""
        names = list(self._listed)
        gone = names[names.index(first) :]
        self._list({name: self._listed[name] for name in names if name not in gone})
        for name in gone:
            (self.parts / name).unlink()


def replace_table(run: RunFolder, table: str, rows: Iterable[dict[str, Any]]) -> None:
    """Write a table at once, in place of the one that is there (which `rows` may be read from)."""
    schema = _schema_with(table, run.provenance(table))
    rows = iter(rows)
    with (
        atomic_write(run.path / f"{table}.parquet") as temporary,
        pq.ParquetWriter(temporary, schema, write_page_checksum=True) as writer,
    ):
        while some := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))


def _schema_with(table: str, provenance: dict[str, Any]) -> pa.Schema:
    return SCHEMAS[table].with_metadata({**SCHEMAS[table].metadata, b"rlaif": json.dumps(provenance).encode()})


def _distinct(file: Path, key: str | tuple[str, ...]) -> set[Any]:
    """The values of a column, or of several columns together, a part at a time in memory."""
    names = [key] if isinstance(key, str) else list(key)
    found: set[Any] = set()
    with pq.ParquetFile(file, page_checksum_verification=True) as opened:
        for group in range(opened.num_row_groups):
            columns = opened.read_row_group(group, columns=names)
            distinct = [column.to_pylist() for column in columns.group_by(names).aggregate([]).select(names).columns]
            found.update(distinct[0] if isinstance(key, str) else zip(*distinct, strict=True))
    return found
