"""Tables in files: every suffix gives the same rows; what is not a table says so."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlaif.errors import InputError
from rlaif.records.files import open_files
from rlaif.records.open import open_records

ROWS = [{"image": "a.jpg", "question": "What, and why?"}, {"image": "b.jpg", "question": 'A "quoted"\nline'}]
CSV = 'image,question\r\na.jpg,"What, and why?"\r\n\r\nb.jpg,"A ""quoted""\nline"\r\n'


def write(file: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    match file.suffix:
        case ".parquet":
            pd.DataFrame(rows).to_parquet(file)
        case ".json":
            file.write_text(json.dumps(rows))
        case ".jsonl" | ".ndjson":
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".csv":
            file.write_bytes(b"\xef\xbb\xbf" + CSV.encode())
        case ".tsv":
            file.write_text(CSV.replace("image,", "image\t").replace("jpg,", "jpg\t"), encoding="utf-16")
    return file


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".jsonl", ".ndjson", ".csv", ".tsv"])
def test_every_suffix_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    (table,) = open_files(write(tmp_path / f"t{suffix}"), "data.path")
    assert table.columns == ["image", "question"] and table.folders == [tmp_path]
    assert [record.values for record in table.rows()] == ROWS == [record.values for record in table.rows()]
    assert [record.name for record in table.rows()] == [f"t{suffix}:0", f"t{suffix}:1"]
    assert [record.values for record in table.rows(["question"])] == [{"question": row["question"]} for row in ROWS]


def test_rows_say_where_they_are(tmp_path: Path) -> None:
    where = {
        suffix: [record.where for table in open_files(write(tmp_path / f"t{suffix}"), "x") for record in table.rows()]
        for suffix in (".jsonl", ".csv", ".parquet")
    }
    assert where == {
        ".jsonl": ["t.jsonl, line 1", "t.jsonl, line 2"],
        ".csv": ["t.csv, line 2", "t.csv, line 4"],
        ".parquet": ["t.parquet, row 0", "t.parquet, row 1"],
    }


@pytest.mark.parametrize("separator", [";", "\t"])
def test_separators_of_spreadsheets(tmp_path: Path, separator: str) -> None:
    (tmp_path / "t.csv").write_text(f"image{separator}question\na.jpg{separator}What, and why?\n")
    (table,) = open_files(tmp_path / "t.csv", "data.path")
    assert [record.values for record in table.rows()] == [ROWS[0]]


def test_bad_rows_have_a_fault_and_change_no_other(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,question\na.jpg,What, and why?\nb.jpg\nc.jpg,\nd.jpg,ok\n")
    (table,) = open_files(tmp_path / "t.csv", "data.path")
    rows = list(table.rows())
    assert [row.fault for row in rows] == [
        "t.csv, line 2: 3 cells, expected 2 as in the header; quote cells with separators",
        "t.csv, line 3: 1 cells, expected 2 as in the header; quote cells with separators",
        None,
        None,
    ]
    assert rows[2].values == {"image": "c.jpg", "question": None}
    (tmp_path / "t.json").write_text('[{"image": 1}, null,\n "text", {"b": 2}]')
    (table,) = open_files(tmp_path / "t.json", "data.path")
    assert table.columns == ["image", "b"]
    assert [row.fault for row in table.rows()] == [
        None,
        "t.json, line 1: a row is NoneType, expected an object",
        "t.json, line 2: a row is str, expected an object",
        None,
    ]


def test_a_folder_of_tables(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "1.json", ".hidden.json", "__MACOSX/x.json", "dataset_info.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name)
    (tmp_path / "a.jpg").touch()
    tables = list(open_files(tmp_path, "data.path"))
    assert [record.name for table in tables for record in table.rows()] == [
        "1.json:0",
        "1.json:1",
        "b/2.jsonl:0",
        "b/2.jsonl:1",
    ]
    assert tables[1].folders == [tmp_path / "b", tmp_path]
    write(tmp_path / "3.csv")
    with pytest.raises(InputError, match=r"several kinds: b/2\.jsonl \(JSON\), 3\.csv \(CSV\); set data\.path"):
        list(open_files(tmp_path, "data.path"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "is empty; expected a header line with the names of the columns"),
        ("t.csv", b"a,b,a\n", "has two columns 'a'; expected a header line with a name for each column"),
        (
            "t.csv",
            b'a,b\n1,2\n3,"4\n5,6\n',
            "t.csv, line 3: unexpected end of data; expected CSV in which a quoted",
        ),
        ("t.parquet", b"PAR1", "t.parquet is not a parquet file"),
        ("t.xlsx", b"", r"unknown suffix; expected \.parquet, \.json, .*; rename it, or set data\.path"),
    ],
)
def test_what_is_not_a_table(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        [list(table.rows()) for table in open_records(str(tmp_path / name))]


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (',\n{"a": "x', "in line 3 within its JSON: it was cut short"),
        ("\n\u3011", "line 3 is not valid JSON: found '\u3011'"),
    ],
)
def test_json_that_is_cut_short_is_found_before_its_rows_are_used(tmp_path: Path, end: str, message: str) -> None:
    (tmp_path / "t.json").write_text('[\n{"a": 1}' + end, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        list(open_files(tmp_path / "t.json", "data.path"))


def test_paths_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no table file at .*; set data\.path to a file with suffix \.parquet,"):
        list(open_records(str(tmp_path)))
    with pytest.raises(InputError, match=r"t\.json is missing; set import\.path to a file with suffix .* owner/name"):
        list(open_records(str(tmp_path / "t.json"), section="import"))
