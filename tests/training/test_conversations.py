"""The rows of training tables are measured once, by all cores, and again only where something may have changed."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model import MiniCPMVProcessor
from rlaif.config import TrainingConfig
from rlaif.errors import InputError
from tests.support.photographs import bad_photos, encoded, photo, write_files
from tests.support.tiny import noise_image
from training import conversations, stage
from training.__main__ import main
from training.conversations import Conversations, read_table
from training.trainer import load_tables, training_arguments

ROWS = 5


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of captions whose pictures are files beside it; the last one is missing."""
    for row in range(ROWS - 1):
        noise_image((56, 42 + 14 * row), row).save(tmp_path / f"{row}.png")
    rows = [{"image": {"bytes": None, "path": f"{row}.png"}, "caption": "a star " * (row + 1)} for row in range(ROWS)]
    schema = pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "caption": pa.string()})
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "captions.parquet")
    return tmp_path / "captions.parquet"


@pytest.fixture
def measured_by(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file to which each measured row adds the process that measured it."""
    file, images_of = tmp_path / "processes", conversations.images_of
    file.touch()

    def recorded(*arguments: Any) -> Any:
        with file.open("a") as lines:
            lines.write(f"{os.getpid()}\n")
        return images_of(*arguments)

    monkeypatch.setattr(conversations, "images_of", recorded)
    return file


def load(table: Path, model: Path) -> Conversations:
    """The table as a stage reads it."""
    config = TrainingConfig(stage="sft-1", model=str(model), data=[str(table)], sequence_length=192)
    args = training_arguments(config, table.parent / "training")
    (loaded,) = load_tables(config, args, MiniCPMVProcessor.from_pretrained(model), table.parent / "cache")
    return loaded


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_are_measured_once(
    workers: int, table: Path, measured_by: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "ROWS_OF_A_WORKER", 1)
    monkeypatch.setattr(conversations, "ROWS_AT_ONCE", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(workers)))
    first = load(table, tiny_model)
    processes = measured_by.read_text().split()
    assert len(processes) == ROWS and len(set(processes)) == workers
    assert (str(os.getpid()) in processes) == (workers == 1)
    assert [(drop.row, drop.reason) for drop in first.drops] == [(ROWS - 1, "unusable_image")]
    assert first.lengths == sorted(set(first.lengths)) and len(first) == ROWS - 1

    again = load(table, tiny_model)
    assert measured_by.read_text().split() == processes, "measured again"
    assert (again.lengths, again.drops) == (first.lengths, first.drops)


def test_a_start_measures_again_and_a_resume_does_not(
    table: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other settings or mended pictures give other rows; those of a checkpoint have to stay."""
    trainer = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "bf16": False, "disable_tqdm": True}
    values = {"stage": "sft-1", "after_any": True, "packing": "none", "model": str(tiny_model), "data": [str(table)]}
    (tmp_path / "stage.yaml").write_text(json.dumps(values | {"sequence_length": 192, "trainer": trainer}))

    def train(run: str, *settings: str) -> int:
        return main(["--config", str(tmp_path / "stage.yaml"), "--run", str(tmp_path / run), *settings])

    def rows(run: str) -> int:
        metrics = json.loads((tmp_path / run / "metrics.json").read_text())
        return int(metrics["stages"]["training"]["kept"]["rows"])

    def stop(*arguments: Any) -> None:
        raise InputError("stopped")

    for run in ("resumed", "started"):
        assert train(run, "--set", "sequence_length=16") == 2, "all rows are too long"
    with monkeypatch.context() as patch:
        patch.setattr(stage, "finish", stop)
        assert train("resumed") == 2
    noise_image((56, 42)).save(tmp_path / f"{ROWS - 1}.png")
    assert train("resumed") == train("started") == 0
    assert (rows("resumed"), rows("started")) == (ROWS - 1, ROWS)


def test_rows_with_bad_pictures_are_dropped(tiny_model: Path, tmp_path: Path) -> None:
    """Opened as everywhere else; a path leads into the folder of the table or nowhere."""
    folder = tmp_path / "data"
    write_files(folder, {"pictures/a.png": encoded(photo(40, 40), "PNG")})
    write_files(tmp_path, {"secret.png": encoded(photo(50, 50), "PNG")})
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    bad: list[tuple[bytes | None, str | None]] = [(content, None) for content, _ in bad_photos().values()]
    bad += [(None, path) for path in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "gone.png", "a\0.png")]
    bad += [(None, None)]
    good: list[tuple[bytes | None, str | None]] = [(encoded(photo(56, 56), "PNG"), None), (None, "pictures/a.png")]
    images = [{"bytes": content, "path": path} for content, path in [good[0], *bad, good[1]]]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    captions = ["a red car"] * len(images)
    pq.write_table(pa.table({"image": pa.array(images, kind), "caption": captions}), folder / "t.parquet")
    processor = MiniCPMVProcessor.from_pretrained(tiny_model)
    table = Conversations(read_table(str(folder / "t.parquet")), processor, None, folder=folder)
    assert [drop.row for drop in table.drops] == list(range(1, len(images) - 1))
    assert {drop.reason for drop in table.drops} == {"unusable_image"}
    assert len(table) == 2 and len(table[1].slices) == 1
    without = Conversations(read_table(str(folder / "t.parquet")), processor, None)
    assert len(without) == 1 and without.drops[-1].detail == "the image has no bytes"
