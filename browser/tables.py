"""The tables of a run, or of two, in DuckDB: read from the run folder, never written to.

A finished table is one parquet file; one that is being written is the parts that its manifest lists
(`rlaif.storage.tables`), and the drops of an unfinished stage are the lines of a file. `Snapshot` holds views of these
files and the indexes over them; `Runs` makes a new one when a file has changed.
"""

import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from browser.columns import COMPARED_INDEX, INDEXES
from browser.query import View, order, parse, where
from rlaif.errors import InputError, OutsideFolderError
from rlaif.storage.files import file_inside, read_json
from rlaif.storage.schemas import COMMANDS, SCHEMAS
from rlaif.storage.tables import damage_remedy, read_provenance
from rlaif.storage.versions import STAGE_VERSIONS

TABLES = ("prompts", "responses", "claims", "scores", "pairs", "evaluations", "dropped")
ROWS_PER_PAGE = 20
LEAST_SECONDS = 2.0  # between two snapshots of a run under way
SETTINGS = (  # nothing is written, and nothing is read outside the folders of the runs
    "enable_progress_bar = false",
    "temp_directory = ''",
    "enable_external_access = false",
    "lock_configuration = true",
)
Row = dict[str, Any]


def open_run(path: Path) -> list[str]:
    """Check that a folder is a run that can be read; returns a line for each table of another stage version.

    Errors: InputError: it is not one, or a table is damaged or lacks a column of this version.
    """
    if path.is_file():
        raise InputError(f"{path} is a file, expected the folder of a run, such as runs/demo; correct RUN=")
    if not path.is_dir():
        raise InputError(f"run folder {path} does not exist; create it with `make generate RUN={path}`")
    files = {table: table_files(path, table) for table in TABLES}
    if not any(files.values()) and not list(markers(path)):
        if (path / "rounds.json").is_file():
            raise InputError(f"{path} has rounds and no tables of its own; browse one of them: RUN={path / 'round-1'}")
        raise InputError(
            f"{path} is not a run: it has neither a table ({', '.join(TABLES)}) nor a stage; create one with "
            f"`make generate RUN={path}`"
        )
    return [note for table, paths in files.items() for file in paths[:1] if (note := _version_note(path, file, table))]


def _version_note(path: Path, file: Path, table: str) -> str:
    try:
        names = set(pq.read_schema(file).names)
        provenance = read_provenance(file)
    except (pa.ArrowInvalid, OSError) as error:
        problem = " ".join(str(error).split())  # some have several lines
        raise InputError(f"{file} is damaged ({problem}); {damage_remedy(path, table)}") from error
    stage, version = provenance["stage"], provenance["stage_version"]
    ours = STAGE_VERSIONS.get(stage)
    if missing := [name for name in SCHEMAS[table].names if name not in names]:
        raise InputError(
            f"{file} was written by another version ({provenance['code_version']}) and has no column "
            f"{', '.join(missing)}; browse it with the code that wrote it, or write it again with `{COMMANDS[table]}`"
        )
    return "" if version == ours else f"{table} was written by version {version} of {stage}, and this code is {ours}"


def markers(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The stages that have begun in this run, with their markers, in no order."""
    for stage in STAGE_VERSIONS:
        if (path / f"{stage}.json").is_file():
            content = read_json(path / f"{stage}.json")
            if isinstance(content, dict) and "outputs" in content:
                yield stage, content


def table_files(path: Path, table: str) -> list[Path]:
    """The parquet files of a table: the finished one, or its complete parts; none if it has not been begun.

    Errors: InputError: one of them is a link to a file outside the run.
    """
    names = [f"{table}.parquet"]
    manifest = path / f"{table}.parts" / "manifest.json"
    if not (path / names[0]).exists():
        names = [f"{table}.parts/{name}" for name in read_json(manifest)] if manifest.is_file() else []
    files = []
    for name in names:
        try:
            files.append(file_inside(name, [path.resolve()]))
        except OutsideFolderError as error:
            raise InputError(f"{error}; nothing outside a run is shown, so put the file itself there") from error
    return files


def unfinished_drops(path: Path) -> list[Row]:
    """The drops of stages that have not finished; a line that is being written is left for the next time."""
    rows = []
    for stage in STAGE_VERSIONS:
        file = path / f"{stage}.dropped.jsonl"
        if file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):
                    row_id, reason, detail = json.loads(line)
                    rows.append({"stage": stage, "row_id": row_id, "reason": reason, "detail": detail})
    return rows


def stamp(path: Path) -> tuple[Any, ...]:
    """Changes when a file of the run's tables does."""
    files = [file for table in TABLES for file in table_files(path, table)]
    files += sorted(path.glob("*.dropped.jsonl"))
    states = ((file, file.stat()) for file in files)
    return tuple((str(file), state.st_mtime_ns, state.st_size, state.st_ino) for file, state in states)


@dataclass(frozen=True)
class Page:
    """Rows of a view's index. total: how many rows the filter leaves; number: of the page, from 1."""

    rows: list[Row]
    total: int
    number: int

    @property
    def last(self) -> int:
        return max(1, -(-self.total // ROWS_PER_PAGE))


class Snapshot:
    """The tables of a run as schema `run`, and of another one as schema `other`, as they are on disk now."""

    def __init__(self, paths: dict[str, Path]) -> None:
        self._connection = duckdb.connect(":memory:")
        names = [f"{path.resolve()}/" for path in paths.values()]
        folders = ", ".join(_literal(name) for name in [*names, *map(_escaped, names)])
        self._connection.execute(f"SET allowed_directories = [{folders}]")
        for setting in SETTINGS:
            self._connection.execute(f"SET {setting}")
        for schema, path in paths.items():
            self._read(schema, path)
        if "other" in paths:
            self._connection.execute(f"CREATE TABLE compared AS {COMPARED_INDEX}")

    def _read(self, schema: str, path: Path) -> None:
        self._connection.execute(f"CREATE SCHEMA {schema}")
        for table in TABLES:
            self._fill(f"{schema}.no_{table}", SCHEMAS[table].empty_table())
            files = ", ".join(_literal(_escaped(str(file))) for file in table_files(path, table))
            source = f"SELECT * FROM read_parquet([{files}])" if files else f"SELECT * FROM {schema}.no_{table}"
            if table == "dropped":
                drops = pa.Table.from_pylist(unfinished_drops(path), schema=SCHEMAS["dropped"])
                self._fill(f"{schema}.unfinished_drops", drops)
                source += f" UNION ALL SELECT * FROM {schema}.unfinished_drops"
            self._connection.execute(f"CREATE VIEW {schema}.{table} AS {source}")
        paired = str(bool(table_files(path, "pairs"))).lower()
        for index, query in INDEXES.items():
            self._connection.execute(f"CREATE TABLE {schema}.{index} AS {query.format(schema, paired)}")

    def _fill(self, name: str, content: pa.Table) -> None:
        """A table in memory; one that is only registered would not exist in other cursors."""
        self._connection.register("content", content)
        self._connection.execute(f"CREATE TABLE {name} AS SELECT * FROM content")
        self._connection.unregister("content")

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """The rows of a query. Errors: InputError: a file has changed or is damaged."""
        try:
            cursor = self._connection.cursor().execute(query, list(parameters))
            names = [column[0] for column in cursor.description or []]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"a table cannot be read ({reason}); reload, or write it again") from error

    def page(self, view: View, filters: str, sort: str, number: int) -> Page:
        """A page of a view. Errors: InputError: the filter or the order is not one."""
        ordered = order(sort, view)
        condition, parameters = where(parse(filters, view), view)
        # one pass, as a filter may read long texts: the rows of the page, or of the last one, each with the total
        query = f"""
            WITH found AS MATERIALIZED (SELECT * FROM {view.index} WHERE {condition}),
            counted AS (SELECT count(*) AS total FROM found),
            shown AS (SELECT least({number} - 1, greatest(total - 1, 0) // {ROWS_PER_PAGE}) AS page FROM counted)
            SELECT * FROM found, counted ORDER BY {ordered}
            LIMIT {ROWS_PER_PAGE} OFFSET (SELECT page * {ROWS_PER_PAGE} FROM shown)"""
        rows = self.rows(query, parameters)
        total = rows[0]["total"] if rows else 0
        return Page(rows, total, min(number, max(1, -(-total // ROWS_PER_PAGE))))


def _escaped(name: str) -> str:
    """A file name as read_parquet takes it, where a wildcard in brackets stands for itself."""
    return re.sub(r"[*?\[]", r"[\g<0>]", name)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@dataclass
class Runs:
    """The runs that are shown. other: a second one, to compare with."""

    path: Path
    other: Path | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stamp: tuple[Any, ...] | None = None
    _made: float = -LEAST_SECONDS
    _snapshot: Snapshot | None = None

    @property
    def paths(self) -> dict[str, Path]:
        return {"run": self.path} | ({"other": self.other} if self.other is not None else {})

    def snapshot(self) -> Snapshot:
        """The tables as they are on disk, at most LEAST_SECONDS late. Errors: InputError: they cannot be read."""
        with self._lock:
            if self._snapshot is not None and time.monotonic() - self._made < LEAST_SECONDS:
                return self._snapshot
            try:
                now = tuple(stamp(path) for path in self.paths.values())
                if self._snapshot is None or now != self._stamp:
                    self._snapshot, self._stamp = Snapshot(self.paths), now
            except (OSError, duckdb.Error) as error:  # a stage has just replaced a file
                reason = str(error).partition("\n")[0]
                raise InputError(f"the tables cannot be read ({reason}); reload, or write them again") from error
            self._made = time.monotonic()
            return self._snapshot
