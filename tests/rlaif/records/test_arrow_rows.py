"""Arrow values: every type that can be read without loss gives the same values, whole columns or slices."""

from typing import Any

import pyarrow as pa
import pytest

from rlaif.records.arrow_rows import arrow_rows, arrow_values, is_binary, is_list, is_text

TEXTS = ["a", None, "\u56fe", ""]
BYTES = [b"ab", None, b"\xff\x00"]
LISTS = [[{"b": "x"}], None, [], [{"b": "y"}, None, {"b": None}]]
STRUCT = pa.struct([("b", pa.string())])


@pytest.mark.parametrize(
    "array",
    [
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS, pa.string_view()),
        pa.array(TEXTS).dictionary_encode(),
        pa.RunEndEncodedArray.from_arrays([1, 2, 3, 4], TEXTS),
    ],
    ids=lambda array: str(array.type),
)
def test_texts_of_every_type(array: Any) -> None:
    assert is_text(array.type) and arrow_values(array) == TEXTS and arrow_values(array.slice(1, 2)) == TEXTS[1:3]
    assert arrow_values(pa.chunked_array([array, array])) == TEXTS * 2


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2)], ids=str)
def test_bytes_of_every_type(kind: pa.DataType) -> None:
    assert is_binary(kind) and arrow_values(pa.array(BYTES, kind)) == BYTES
    assert arrow_values(pa.array(BYTES, pa.binary()).dictionary_encode()) == BYTES


@pytest.mark.parametrize(
    "kind", [pa.list_, pa.large_list, pa.list_view, pa.large_list_view], ids=lambda kind: kind.__name__
)
def test_lists_of_every_type(kind: Any) -> None:
    array = pa.array(LISTS, kind(STRUCT))
    assert is_list(array.type) and arrow_values(array) == LISTS and arrow_values(array.slice(2)) == LISTS[2:]


def test_lists_of_fixed_size_and_nested_categories() -> None:
    array = pa.array([["a", "b"], None, ["c", None]], pa.list_(pa.dictionary(pa.int8(), pa.string()), 2))
    assert arrow_values(array) == [["a", "b"], None, ["c", None]] and arrow_values(array.slice(2)) == [["c", None]]


def test_structs_nulls_and_numbers() -> None:
    cells = [{"bytes": b"x", "path": None}, None, {"bytes": None, "path": "p"}]
    empty: list[dict[str, str] | None] = [{}, None, {}]
    table = pa.table({"image": cells, "n": [1, None, 3], "nothing": pa.nulls(3), "empty": empty})
    assert list(arrow_rows(table)) == [
        {"image": cell, "n": number, "nothing": None, "empty": item}
        for cell, number, item in zip(cells, [1, None, 3], empty, strict=True)
    ]
    assert list(arrow_rows(table.slice(2))) == list(arrow_rows(table))[2:]


def test_a_text_that_is_not_utf8_is_bytes_and_fails_no_other() -> None:
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffa")]
    )
    assert arrow_values(bad) == [b"\xff", "a"]
    assert arrow_values(pa.StructArray.from_arrays([bad], ["t"])) == [{"t": b"\xff"}, {"t": "a"}]
