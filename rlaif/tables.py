"""The tables of a run: how they are written in parts and read back as a stream; their columns: see rlaif.schemas.

A finished table is one file, `runs/<name>/<table>.parquet`. While its stage runs, its rows lie in
`<table>.parts/part-00000.parquet` and so on, each written under a temporary name and then renamed, so that a killed
stage leaves whole parts only and goes on from them. `<table>.parts/manifest.json` lists them with the hash of their
bytes: a part that it does not list is made again, one with other bytes is an error. Pages carry checksums, which are
verified whenever a table is read. Every file carries in its metadata, under `rlaif`, what made it (`Run.provenance`),
and under `huggingface` the features by which `datasets` shows images as images.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlaif.errors import InputError, RunMismatchError
from rlaif.schemas import MADE_BY, NULLABLE, SCHEMAS

if TYPE_CHECKING:
    from rlaif.run import Run

ROWS_AT_ONCE = 10_000  # of small rows in memory
PART_BYTES = 128 * 2**20  # a part is written out at this size at the latest, so that images do not pile up in memory


def parquet_files(path: Path, setting: str) -> dict[str, Path]:
    """A parquet file, or all below a folder, in order, by the names that a person finds them by.

    Errors: InputError if there is none, naming the `setting` that gives the path.
    """
    files = {str(file.relative_to(path)): file for file in sorted(path.rglob("*.parquet"))}
    if path.is_file():
        files = {path.name: path}
    if not files:
        raise InputError(f"no parquet file at {path}; {setting} names a .parquet file or a folder of them")
    return files


def make_id(*parts: str) -> str:
    """The first 16 hex digits of the SHA-256 of the parts, joined by the unit separator: equal parts, equal id."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there takes the place of `path` when the block ends well."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """As `atomic_write`, of a folder, which is not there yet: whoever writes it makes it."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a try that was killed
    yield temporary
    shutil.rmtree(path, ignore_errors=True)  # whole, but its stage was killed before it could finish
    os.replace(temporary, path)


class TableWriter:
    """Writes one table of a run in parts; a context manager. Left by an error, it keeps the parts for the next try.

    `key` names the column, or the columns, by which a resumed stage knows what is `done`, a set of their values (about
    100 bytes each, and none in a stage that was not stopped). `write` takes whole groups: all rows of one key. `until`
    is what is done in another table that is written after this one: parts from the first that has more are made again.
    """

    def __init__(
        self,
        run: "Run[Any]",
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
        self._schema = _with_provenance(table, provenance)
        self._written: list[pa.Table] = []  # since the last part
        self._rows = self._bytes = 0  # in _written
        self._finished = self.path.is_file()  # the stage was stopped after this table and before its end
        self._listed = {} if self._finished else self._read_manifest()
        self.done: set[Any] = set()
        for file in [self.path] if self._finished else [self.parts / name for name in list(self._listed)]:
            if _provenance(file)["identity"] != provenance["identity"]:
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
            digest = _sha256(temporary)
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
            if not file.is_file() or _sha256(file) != digest:
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


def replace_table(run: "Run[Any]", table: str, rows: Iterable[dict[str, Any]]) -> None:
    """Write a table at once, in place of the one that is there (which `rows` may be read from)."""
    schema = _with_provenance(table, run.provenance(table))
    rows = iter(rows)
    with (
        atomic_write(run.path / f"{table}.parquet") as temporary,
        pq.ParquetWriter(temporary, schema, write_page_checksum=True) as writer,
    ):
        while some := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))


def read_parts(run: "Run[Any]", table: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
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
    run: "Run[Any]", table: str, columns: Sequence[str] | None = None, filter: Mapping[str, Any] | None = None
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


def count_rows(run: "Run[Any]", table: str) -> int:
    """The number of rows of a finished table. Errors: as `read_rows`."""
    with _open(run, table) as file:
        return file.metadata.num_rows


def read_metadata(run: "Run[Any]", table: str) -> dict[str, Any]:
    """What made a finished table: the JSON under `rlaif` in its metadata. Errors: as `read_rows`."""
    _open(run, table).close()
    return _provenance(run.path / f"{table}.parquet")


def _with_provenance(table: str, provenance: dict[str, Any]) -> pa.Schema:
    return SCHEMAS[table].with_metadata({**SCHEMAS[table].metadata, b"rlaif": json.dumps(provenance).encode()})


def _open(run: "Run[Any]", table: str) -> pq.ParquetFile:
    path = run.path / f"{table}.parquet"
    if not path.is_file():
        raise InputError(f"{path} is missing; first run `{MADE_BY[table]} RUN={run.path}` with the same CONFIG and SET")
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except pa.ArrowInvalid as error:
        raise _damaged(run, table, error) from error


def _damaged(run: "Run[Any]", table: str, error: Exception) -> InputError:
    return InputError(
        f"{run.path / table}.parquet is damaged ({error}); delete it and run `{MADE_BY[table]} RUN={run.path}` again"
    )


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


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _provenance(file: Path) -> dict[str, Any]:
    metadata = pq.read_schema(file).metadata or {}
    if b"rlaif" not in metadata:
        raise InputError(
            f"{file} was not written by this project (no `rlaif` metadata); move it away and make it again"
        )
    return json.loads(metadata[b"rlaif"])
