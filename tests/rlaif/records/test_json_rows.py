"""JSON rows: both layouts, the encodings that tools write, and errors that name the line."""

import json
from pathlib import Path

import pytest

from rlaif.errors import InputError
from rlaif.records import json_rows
from rlaif.records.json_rows import read_json_rows

TWO = [(1, {"a": 1}), (2, {"a": "\u56fe"})]


@pytest.fixture(params=[1, 7, 2**20])
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is read in pieces of so many characters: where a piece ends must not matter."""
    monkeypatch.setattr(json_rows, "CHARACTERS", request.param)
    return tmp_path / "rows.json"


@pytest.mark.parametrize(
    "text",
    [
        '[{"a":1},\n{"a":"\u56fe"}]',
        '{"a":1}\n{"a":"\u56fe"}\n',
        '[{"a":1},\r\n{"a":"\\u56fe"},\r\n]',
        '{"a":1}\r\n{"a":"\u56fe"}',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_lists_and_lines_in_every_encoding(file: Path, text: str, encoding: str) -> None:
    file.write_bytes(text.encode(encoding))
    assert list(read_json_rows(file)) == TWO


def test_one_object_over_several_lines_and_an_empty_list(file: Path) -> None:
    file.write_text('{"a":\n  {"b": [1.5, null]}\n}\n\n {"a": 10}')
    assert list(read_json_rows(file)) == [(1, {"a": {"b": [1.5, None]}}), (5, {"a": 10})]
    file.write_text("[ ]\n")
    assert list(read_json_rows(file)) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[\n{"a":1},\n{"a":"xy', "ends in line 3 within its JSON: it was cut short; copy or write it again"),
        ('[\n{"a":1},\n{"a":', "ends in line 3 within its JSON: it was cut short"),
        ('[\n{"a":1},\n', "ends in line 2 within its JSON: it was cut short"),
        ('[\n{"a":1}', "ends in line 2 within its JSON: it was cut short"),
        ('{"a":1}\n{"a":[1,\n', "ends in line 2 within its JSON: it was cut short"),
        (
            '[\n{"a":1}\n\u3011',
            "line 3 is not valid JSON: found '\u3011' where ',' or ']' is expected; correct",
        ),
        ('\u3010{"a":1}]', "line 1 is not valid JSON: expecting value; correct the file"),
        ('[{"a":1}\n{"a":2}]', "line 2 is not valid JSON: found '{' where ',' or ']' is expected"),
        ('[\n{"a":1,\n}]', "line 3 is not valid JSON: expecting property name enclosed in double quotes"),
        ('{"a":1}\n{"a":2\n{"a":3}\n{"a":4}', "line 3 is not valid JSON: expecting ',' delimiter"),
        ('[{"a":1}]\n[', r"line 2 is not valid JSON: found '\[' after the end of the list"),
        ('{"a":1}\n]', r"line 2 is not valid JSON: found '\]' without a '\[' before"),
        ("[" * 100_000, "line 1 is not valid JSON: maximum recursion depth exceeded"),
        ('{"a":' + "1" * 5000 + "}", "line 1 is not valid JSON: Exceeds the limit"),
        (" \n", "is empty; expected a list of rows, or JSON lines; copy or write it again"),
    ],
)
def test_damage_is_an_error_that_names_the_line(file: Path, content: str, message: str) -> None:
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        list(read_json_rows(file))


def test_a_text_that_is_not_unicode_is_bytes(file: Path) -> None:
    file.write_bytes(b'[{"a":"\\ud800","b":["\xff", {"c": "ok"}],"d":"\\ud83d\\ude00"}]')
    ((_, row),) = read_json_rows(file)
    assert row == {"a": b"\xed\xa0\x80", "b": [b"\xff", {"c": "ok"}], "d": "\U0001f600"}


def test_a_long_list_is_never_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held is one piece of the file, not the list: rows come while the rest was not yet read."""
    monkeypatch.setattr(json_rows, "CHARACTERS", 100)
    file = tmp_path / "rows.json"
    rows = [{"id": index, "text": "x" * (500 if index == 7 else 20)} for index in range(1000)]
    file.write_text(json.dumps(rows, indent=1))
    read = read_json_rows(file)
    assert [next(read)[1] for _ in range(3)] == rows[:3]
    file.write_text("[")  # the same file, now empty behind the part that was read
    with pytest.raises(InputError, match="cut short"):
        list(read)
    file.write_text(json.dumps(rows, indent=1))
    assert [row for _, row in read_json_rows(file)] == rows
    assert [line for line, _ in read_json_rows(file)] == [2 + 4 * index for index in range(1000)]


def test_a_file_that_ends_within_a_character_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe" + '{"a": 1}'.encode("utf-16-le")[:-1])
    with pytest.raises(InputError, match=r"x\.jsonl is not utf-16.*truncated data; write it again"):
        list(read_json_rows(tmp_path / "x.jsonl"))
