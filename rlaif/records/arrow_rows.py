"""Rows of Arrow data as Python values, for every type that has them: nothing is lost, and nothing fails a whole table.

Dictionary-encoded, view, large and fixed-size columns become plain values. A text is a str, or bytes where it is not
valid UTF-8: a single invalid one would otherwise fail its whole batch.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlaif.errors import InputError
from rlaif.records.record import Value

ROWS_PER_BATCH = 32  # rows in memory; photographs are large


def parquet_schema(file: Path) -> pa.Schema:
    """The schema of a parquet file. Errors: InputError if it is not one."""
    with _opened(file) as table:
        return table.schema_arrow


def read_parquet_rows(file: Path, columns: list[str] | None) -> Iterator[dict[str, Value]]:
    """The rows of a parquet file; columns: None for all. Errors: InputError."""
    with _opened(file) as table:
        for batch in table.iter_batches(ROWS_PER_BATCH, columns=columns):
            yield from arrow_rows(batch)


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise InputError(f"{file} is not a parquet file ({error}); copy or write it again") from error


def arrow_rows(batch: pa.RecordBatch | pa.Table) -> Iterator[dict[str, Value]]:
    """The rows of a batch or table."""
    names = batch.schema.names
    columns = [arrow_values(batch.column(index)) for index in range(len(names))]
    for cells in zip(*columns, strict=True):
        yield dict(zip(names, cells, strict=True))


def arrow_values(array: Any) -> list[Value]:
    """The values of an array; None for null."""
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in arrow_values(chunk)]
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return arrow_values(array.storage)
    if pa.types.is_dictionary(kind):
        return arrow_values(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return arrow_values(pc.run_end_decode(array))
    if is_text(kind):
        return [None if text is None else _text(text) for text in array.cast(pa.large_binary()).to_pylist()]
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        fields = [arrow_values(field) for field in array.flatten()]
        valid = array.is_valid().to_pylist()
        cells = zip(*fields, strict=True) if fields else iter([()] * len(valid))
        return [dict(zip(names, cell, strict=True)) if ok else None for cell, ok in zip(cells, valid, strict=True)]
    if is_list(kind):
        items = iter(arrow_values(pc.list_flatten(array)))
        lengths = pc.list_value_length(array).to_pylist()
        return [None if length is None else list(islice(items, length)) for length in lengths]
    values: list[Value] = array.to_pylist()
    return values


def is_text(kind: pa.DataType) -> bool:
    """Whether a type holds texts, without regard to how they are encoded."""
    kind = plain_type(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Whether a type holds bytes, without regard to how they are encoded."""
    kind = plain_type(kind)
    checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(check(kind) for check in checks)


def is_list(kind: pa.DataType) -> bool:
    """Whether a type holds lists of any kind."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values of a dictionary-encoded, run-end-encoded or extension type; other types as they are."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    return kind


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content
