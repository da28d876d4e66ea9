"""Data sets: splits and slices, configurations, and streams that read no more than they need."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaif.errors import InputError
from rlaif.records.data_sets import can_stream, open_data_set, should_stream
from rlaif.records.record import RecordTable


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def numbers(table: RecordTable) -> list[int]:
    return [record.values["n"] for record in table.rows(["n"])]


def shards(folder: Path, good: int, bad: int = 0) -> Path:
    """Shards of ten rows each, the last ones unreadable: who reads one of those fails."""
    folder.mkdir()
    for index in range(good + bad):
        file = folder / f"train-{index:05d}-of-{good + bad:05d}.parquet"
        rows = [{"n": index * 10 + row, "image": {"bytes": b"x", "path": None}} for row in range(10)]
        pq.write_table(pa.Table.from_pylist(rows), file) if index < good else file.write_bytes(b"PAR1")
    return folder


def saved(folder: Path) -> Path:
    from datasets import Dataset, DatasetDict

    splits = {name: Dataset.from_dict({"n": list(range(size))}) for name, size in (("train", 20), ("test", 4))}
    DatasetDict(splits).save_to_disk(folder)
    return folder


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("test", [0, 1, 2, 3]),
        ("train[:3]", [0, 1, 2]),
        ("train[17:]", [17, 18, 19]),
        ("train[-2:]", [18, 19]),
        ("train[18:1000]", [18, 19]),
        ("train[5:5]", []),
        ("train[:10%]+test[:50%]", [0, 1, 0, 1]),
    ],
)
def test_splits_and_slices_of_a_saved_data_set(tmp_path: Path, split: str, expected: list[int]) -> None:
    assert numbers(open_data_set(str(saved(tmp_path / "set")), split=split)) == expected


def test_names_of_rows_are_positions_in_the_split(tmp_path: Path) -> None:
    path = str(saved(tmp_path / "set"))
    assert [row.name for row in open_data_set(path, split="train[5:7]").rows()] == ["train:5", "train:6"]
    assert [row.where for row in open_data_set(path, split="test[3:]").rows()] == [f"data set {path}, test, row 3"]


@pytest.mark.parametrize(
    ("split", "expected"),
    [("train[:3]", [0, 1, 2]), ("train[8:12]", [8, 9, 10, 11]), ("train[25:99]", [*range(25, 30)])],
)
def test_a_stream_gives_the_same_rows(tmp_path: Path, split: str, expected: list[int]) -> None:
    path = str(shards(tmp_path / "set", 3))
    streamed, loaded = (open_data_set(path, split=split, streaming=streaming) for streaming in (True, False))
    assert numbers(streamed) == numbers(loaded) == expected
    assert [row.name for row in streamed.rows()] == [row.name for row in loaded.rows()]
    assert streamed.columns == loaded.columns == ["n", "image"] and streamed.schema == loaded.schema


def test_a_stream_reads_no_shard_behind_the_last_row(tmp_path: Path) -> None:
    path = str(shards(tmp_path / "set", 2, bad=50))
    assert numbers(open_data_set(path, split="train[:20]", streaming=True)) == list(range(20))
    rows = open_data_set(path, streaming=True).rows(["n"])
    assert [next(rows).values["n"] for _ in range(10)] == list(range(10))
    with pytest.raises(InputError, match=r"cannot read data set .*set: .*; try again"):
        list(open_data_set(path, streaming=True).rows())
    with pytest.raises(InputError, match=r"cannot load data set .*set: "):  # without a stream all are read first
        open_data_set(path, split="train[:20]")


@pytest.mark.parametrize("streaming", [True, False])
def test_configurations(tmp_path: Path, streaming: bool) -> None:
    names = ("one", "two")
    configs = [{"config_name": name, "data_files": f"{name}.jsonl"} for name in names]
    (tmp_path / "README.md").write_text(f"---\n{json.dumps({'configs': configs})}\n---\n")
    for number, name in enumerate(names):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"n": number}) + "\n")
    assert numbers(open_data_set(str(tmp_path), config_name="two", streaming=streaming)) == [1]
    with pytest.raises(InputError, match=r"Config name is missing.*\['one', 'two'\].*or set import\.config_name"):
        open_data_set(str(tmp_path), streaming=streaming, section="import")
    with pytest.raises(InputError, match=r"'three' not found. Available: \['one', 'two'\]"):
        open_data_set(str(tmp_path), config_name="three", streaming=streaming)


@pytest.mark.parametrize("streaming", [True, False])
def test_images_in_files_and_archives(tmp_path: Path, streaming: bool) -> None:
    """Images of an archive are bytes, as no path leads to them; an archive elsewhere is not opened."""
    (tmp_path / "set").mkdir()
    for name in ("set/train.zip", "private.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("0.png", b"content")
    (row,) = open_data_set(str(tmp_path / "set"), streaming=streaming).rows()
    assert row.values["image"]["bytes"] == b"content"
    cells = [{"bytes": None, "path": f"zip://0.png::{tmp_path / 'private.zip'}"}]
    (tmp_path / "other").mkdir()
    pq.write_table(pa.table({"image": cells}), tmp_path / "other" / "train.parquet")
    (row,) = open_data_set(str(tmp_path / "other"), streaming=streaming).rows()
    assert row.values["image"]["bytes"] is None


def test_a_file_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text("[]")
    with pytest.raises(InputError, match=r"d\.json is a file, expected a data set; set data\.source to table"):
        open_data_set(str(tmp_path / "d.json"))


def test_unknown_splits_and_slices(tmp_path: Path) -> None:
    path = str(saved(tmp_path / "set"))
    with pytest.raises(InputError, match=r"no split 'dev'; it has: train, test; set data\.split"):
        open_data_set(path, split="dev[:3]")
    with pytest.raises(InputError, match=r"cannot read data\.split 'train\[:a\]': .*; expected such as train\[:1000\]"):
        open_data_set(path, split="train[:a]")
    with pytest.raises(InputError, match=r"'train\[:5%\]', which cannot be streamed; .*; set data\.streaming to false"):
        open_data_set(str(shards(tmp_path / "shards", 1)), split="train[:5%]", streaming=True)


def test_which_slices_can_be_streamed() -> None:
    can: dict[Any, bool] = {name: can_stream(name) for name in ("train", "a-b[:1]", "t[1:]", "t[-1:]", "t[:1%]", "a+b")}
    assert can == {"train": True, "a-b[:1]": True, "t[1:]": True, "t[-1:]": False, "t[:1%]": False, "a+b": False}


def test_when_to_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where few rows are wanted, unless the setting says otherwise or only what is cached can be read."""
    cases = [("train", None), ("train", 5), ("train[:5]", None), ("train[:5%]", 5)]
    assert [should_stream("a/b", split, None, limit) for split, limit in cases] == [False, True, True, False]
    assert not should_stream("a/b", "train", False, 5) and should_stream("a/b", "train", True, None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert not should_stream("a/b", "train", None, 5) and should_stream(str(tmp_path), "train", None, 5)
