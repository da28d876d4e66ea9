"""Tables in files: JSON, JSON lines, CSV and parquet, told apart by their suffix."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from rlaif.errors import InputError
from rlaif.records.csv_rows import read_csv_rows, read_header
from rlaif.records.json_rows import check_end, read_json_rows
from rlaif.records.record import Record, RecordTable, Value

KINDS = {
    ".parquet": "parquet",
    ".json": "JSON",
    ".jsonl": "JSON",
    ".ndjson": "JSON",
    ".csv": "CSV",
    ".tsv": "CSV",
}
NOT_TABLES = ("dataset_info.json", "dataset_infos.json")  # that describe the tables beside them
ROWS_FOR_COLUMNS = 100  # rows of JSON may have different columns


def open_files(path: Path, setting: str, kind: str | None = None) -> Iterator[RecordTable]:
    """The table at `path`, or all tables below that folder in order. Each is opened when it is reached.

    setting: the configuration key or variable that gives the path. kind: only of this kind, such as "parquet"; a file
    is then of this kind whatever its suffix. Errors: InputError if there is no table, or the folder has tables of
    several kinds.
    """
    for name, file in table_files(path, setting, kind).items():
        folders = [file.parent, path] if path.is_dir() else [file.parent]
        yield _open(kind or KINDS[file.suffix.lower()], name, file, folders)


def table_files(path: Path, setting: str, kind: str | None = None) -> dict[str, Path]:
    """The tables at a path, by their names relative to it, without hidden files and NOT_TABLES.

    Errors: as `open_files`.
    """
    suffixes = ", ".join(suffix for suffix, of_kind in KINDS.items() if kind in (None, of_kind))
    if path.is_file():
        if kind is None and path.suffix.lower() not in KINDS:
            raise InputError(f"{path} has an unknown suffix; expected {suffixes}; rename it, or set {setting}")
        return {path.name: path}
    files = {str(file.relative_to(path)): file for file in sorted(path.rglob("*")) if file.suffix.lower() in KINDS}
    kinds = {name: KINDS[file.suffix.lower()] for name, file in files.items() if file.is_file()}
    kinds = {name: found for name, found in kinds.items() if kind in (None, found) and not _is_skipped(name)}
    if not kinds:
        raise InputError(
            f"no {kind or 'table'} file at {path}; set {setting} to a file with suffix {suffixes}, or a folder of them"
        )
    if len(set(kinds.values())) > 1:
        examples = {found: name for name, found in kinds.items()}
        found = ", ".join(f"{name} ({of_kind})" for of_kind, name in examples.items())
        raise InputError(f"{path} has tables of several kinds: {found}; set {setting} to one of them")
    return {name: files[name] for name in kinds}


def _is_skipped(name: str) -> bool:
    parts = Path(name).parts
    return parts[-1] in NOT_TABLES or any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _open(kind: str, name: str, file: Path, folders: list[Path]) -> RecordTable:
    if kind == "JSON":
        check_end(file)
        first = islice(_json_records(name, file, None), ROWS_FOR_COLUMNS)
        columns = list(dict.fromkeys(column for record in first for column in record.values))
        return RecordTable(str(file), columns, folders, partial(_json_records, name, file))
    if kind == "CSV":
        header = read_header(file)
        return RecordTable(str(file), header, folders, partial(_csv_records, name, file, header))
    from rlaif.records.arrow_rows import parquet_schema  # deferred so that JSON needs no Arrow

    schema = parquet_schema(file)
    return RecordTable(str(file), schema.names, folders, partial(_parquet_records, name, file), schema)


def _json_records(name: str, file: Path, columns: Sequence[str] | None) -> Iterator[Record]:
    for index, (line, row) in enumerate(read_json_rows(file)):
        row_name, where = f"{name}:{index}", f"{name}, line {line}"
        if not isinstance(row, dict):
            yield Record(row_name, where, {}, f"{where}: a row is {type(row).__name__}, expected an object")
        else:
            yield Record(row_name, where, _chosen(row, columns))


def _csv_records(name: str, file: Path, header: list[str], columns: Sequence[str] | None) -> Iterator[Record]:
    rows = read_csv_rows(file)
    next(rows, None)
    for index, (line, cells) in enumerate(rows):
        row_name, where = f"{name}:{index}", f"{name}, line {line}"
        if len(cells) != len(header):
            fault = f"{where}: {len(cells)} cells, expected {len(header)} as in the header; quote cells with separators"
            yield Record(row_name, where, {}, fault)
        else:
            yield Record(row_name, where, _chosen(dict(zip(header, cells, strict=True)), columns))


def _parquet_records(name: str, file: Path, columns: Sequence[str] | None) -> Iterator[Record]:
    from rlaif.records.arrow_rows import read_parquet_rows

    wanted = None if columns is None else list(columns)
    for index, values in enumerate(read_parquet_rows(file, wanted)):
        yield Record(f"{name}:{index}", f"{name}, row {index}", values)


def _chosen(row: dict[str, Value], columns: Sequence[str] | None) -> dict[str, Value]:
    return row if columns is None else {name: row[name] for name in columns if name in row}
