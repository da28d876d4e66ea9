"""The tables of a run: their columns, how they are written in parts and read back as a stream.

A finished table is one file, `runs/<name>/<table>.parquet`. While its stage runs, its rows lie in
`<table>.parts/part-00000.parquet` and so on, each written under a temporary name and then renamed, so that a killed
stage leaves whole parts only and goes on from them. Every file carries in its metadata, under `rlaif`, what made it
(`Run.provenance`), and under `huggingface` the features by which `datasets` shows images as images.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlaif.errors import InputError, RunMismatchError

if TYPE_CHECKING:
    from rlaif.run import Run

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
JUDGED_CLAIMS = pa.list_(
    pa.struct(
        [
            ("claim", pa.string()),
            ("question", pa.string()),
            ("p_yes", pa.float32()),
            ("p_no", pa.float32()),
            ("verdict", pa.bool_()),
        ]
    )
)
PART_BYTES = 128 * 2**20  # a part is written out at this size at the latest, so that images do not pile up in memory


def _schema(**columns: pa.DataType) -> pa.Schema:
    features = {"info": {"features": {name: _feature(kind) for name, kind in columns.items()}}}
    return pa.schema(columns, metadata={b"huggingface": json.dumps(features).encode()})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """The description by which Hugging Face `datasets` reads a column."""
    if kind == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": {"float": "float32", "double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


SCHEMAS: dict[str, pa.Schema] = {
    "prompts": _schema(
        prompt_id=pa.string(),
        image=IMAGE,
        image_sha256=pa.string(),
        instruction=pa.string(),
        source=pa.string(),
        split=pa.string(),
        reference=pa.string(),  # JSON; null where no truth is known
    ),
    "responses": _schema(
        response_id=pa.string(),
        prompt_id=pa.string(),
        sample_index=pa.int32(),
        seed=pa.int64(),
        text=pa.string(),
        finish_reason=pa.string(),
        num_tokens=pa.int32(),
        temperature=pa.float32(),
        top_p=pa.float32(),
        policy=pa.string(),
        policy_revision=pa.string(),
        round=pa.int32(),
    ),
    "claims": _schema(
        claim_id=pa.string(),
        response_id=pa.string(),
        prompt_id=pa.string(),
        claim_index=pa.int32(),
        claim=pa.string(),
        question=pa.string(),
        p_yes=pa.float32(),
        p_no=pa.float32(),
        p_other=pa.float32(),
        verdict=pa.bool_(),  # accepted: p_yes > p_no
        labeler=pa.string(),
        labeler_revision=pa.string(),
    ),
    "scores": _schema(
        response_id=pa.string(),
        prompt_id=pa.string(),
        num_claims=pa.int32(),
        num_rejected=pa.int32(),
        score=pa.float64(),
        whole_response_score=pa.float64(),  # p_yes - p_no of one question about the whole response: the baseline
    ),
    "pairs": _schema(
        pair_id=pa.string(),
        prompt_id=pa.string(),
        images=pa.list_(IMAGE),
        prompt=MESSAGES,
        chosen=MESSAGES,
        rejected=MESSAGES,
        chosen_response_id=pa.string(),
        rejected_response_id=pa.string(),
        chosen_score=pa.float64(),
        rejected_score=pa.float64(),
        chosen_claims=JUDGED_CLAIMS,
        rejected_claims=JUDGED_CLAIMS,
        round=pa.int32(),
        split=pa.string(),
    ),
    "evaluations": _schema(
        which=pa.string(),  # "before" or "after"
        prompt_id=pa.string(),
        text=pa.string(),
        finish_reason=pa.string(),
        num_tokens=pa.int32(),
        split=pa.string(),
    ),
    "rewrites": _schema(  # with its `image` and `caption` a training table
        caption_id=pa.string(),  # file and row of the raw caption
        image=IMAGE,
        raw_caption=pa.string(),
        question=pa.string(),
        caption=pa.string(),
        fluency=pa.float32(),  # mean log-probability of the caption's tokens under the rewriter
        repetition=pa.float32(),  # share of its four-word sequences that came before
        invented=pa.float32(),  # share of its content words that the raw caption has not
        rewriter=pa.string(),
        rewriter_revision=pa.string(),
    ),
    "dropped": _schema(stage=pa.string(), row_id=pa.string(), reason=pa.string(), detail=pa.string()),
}

# Not said in the schemas, as `datasets` ignores its own features for a column that is declared non-nullable.
NULLABLE = {("prompts", "reference")}

MADE_BY = {  # output of a run -> the target that makes it
    "prompts": "make generate",
    "responses": "make generate",
    "claims": "make feedback",
    "scores": "make feedback",
    "pairs": "make feedback",
    "policy": "make dpo",
    "evaluations": "make evaluate",
    "rewrites": "make rewrite-captions",
    "dropped": "make generate",
}


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


class TableWriter:
    """Writes one table of a run in parts; a context manager. Left by an error, it keeps the parts for the next try.

    `key` names the column by which a resumed stage knows what is done. `write` takes whole groups: all rows of one key.
    """

    def __init__(self, run: "Run[Any]", table: str, *, key: str, part_rows: int = 2000) -> None:
        self.path = run.path / f"{table}.parquet"
        self.parts = run.path / f"{table}.parts"
        self.part_rows = part_rows
        self._table = table
        self._columns = set(SCHEMAS[table].names)
        provenance = run.provenance(table)
        self._schema = _with_provenance(table, provenance)
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0  # in _batches
        self._finished = self.path.is_file()  # the stage was stopped after this table and before its end
        finished_files = [self.path] if self._finished else sorted(self.parts.glob("part-*.parquet"))
        self._next_part = 0 if self._finished else len(finished_files)
        self.done: set[str] = set()
        for file in finished_files:
            if _provenance(file)["identity"] != provenance["identity"]:
                raise RunMismatchError(
                    f"{file} was made with other settings; use another RUN=, or delete {run.path} to start over"
                )
            self.done.update(pq.ParquetFile(file).read(columns=[key])[key].to_pylist())

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
        if not rows:
            return
        assert not self._finished, f"{self.path} is finished; rows whose key is in `done` must not be written again"
        batch = pa.RecordBatch.from_pylist(rows, schema=self._schema)
        for name, column in zip(self._schema.names, batch.columns, strict=True):
            if column.null_count and (self._table, name) not in NULLABLE:
                raise ValueError(f"row of table {self._table}: column {name!r} is None; it needs a value")
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= self.part_rows or self._bytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the collected rows as one part; they survive from here on."""
        if not self._batches:
            return
        self.parts.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.parts / f"part-{self._next_part:05d}.parquet") as temporary:
            pq.write_table(pa.Table.from_batches(self._batches), temporary)
        self._batches = []
        self._rows = self._bytes = 0
        self._next_part += 1

    def finish(self) -> int:
        """Join the parts into the final file and remove them. Returns the number of rows; a second call only counts."""
        if not self._finished:
            self.flush()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as temporary, pq.ParquetWriter(temporary, self._schema) as writer:
                for part in sorted(self.parts.glob("part-*.parquet")):
                    writer.write_table(pq.ParquetFile(part).read().cast(self._schema))
            self._finished = True
        shutil.rmtree(self.parts, ignore_errors=True)
        return pq.read_metadata(self.path).num_rows


def replace_table(run: "Run[Any]", table: str, rows: Iterable[dict[str, Any]]) -> None:
    """Write a small table whole, in place of the one that is there."""
    schema = _with_provenance(table, run.provenance(table))
    with atomic_write(run.path / f"{table}.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), temporary)


def read_rows(
    run: "Run[Any]", table: str, columns: Sequence[str] | None = None, filter: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a finished table, one part at a time in memory.

    `columns` picks columns (None = all); `filter` maps columns, which may be others, to the value they must equal.
    Errors: InputError if the table is missing (with the command that makes it), damaged, or lacks a column.
    """
    names = list(SCHEMAS[table].names if columns is None else columns)
    equal = dict(filter or {})
    with _open(run, table) as file:
        for name in [*names, *equal]:
            if name not in file.schema_arrow.names:
                raise InputError(
                    f"{run.path / table}.parquet has no column {name!r}; it has: {', '.join(file.schema_arrow.names)}"
                )
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, columns=[*dict.fromkeys([*names, *equal])])
            for name, value in equal.items():
                rows = rows.filter(pc.equal(rows[name], value))
            yield from rows.select(names).to_pylist()


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
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{path} is damaged ({error}); delete it and run `{MADE_BY[table]} RUN={run.path}` again"
        ) from error


def _provenance(file: Path) -> dict[str, Any]:
    metadata = pq.read_schema(file).metadata or {}
    if b"rlaif" not in metadata:
        raise InputError(
            f"{file} was not written by this project (no `rlaif` metadata); move it away and make it again"
        )
    return json.loads(metadata[b"rlaif"])
