"""Sources of prompts: photographs, parquet, data sets, scenes; what is dropped and why."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

import model.images
from generation.sources import read_instructions
from model.images import open_image
from rlaif.config import DataSection
from rlaif.errors import InputError
from rlaif.sources.images import load_images
from rlaif.sources.picture import Picture, UnusableImageError
from rlaif.storage.files import make_id
from tests.support.photographs import (
    as_bytes,
    bad_photos,
    collect,
    encoded,
    folder_data,
    good_photos,
    naively,
    parquet_file,
    photo,
    write_files,
)

Row = dict[str, Any]
PLAIN = {"a/rgb.jpg", "a/gray.JPG", "bits.png", "palette.png", "tiny.png", "strip.png", "w.webp", "no-suffix"}
PLAIN |= {"w-alpha.webp", "40-megapixels.jpg"}  # of good_photos; the alpha of the first is opaque


@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_every_valid_image_is_kept_and_broken_ones_are_dropped_with_a_reason(tmp_path: Path, instructions: str) -> None:
    good, bad = good_photos(), bad_photos()
    folder = tmp_path / "photos"
    write_files(folder, {**good, **{name: content for name, (content, _) in bad.items()}})
    write_files(folder, {"README.md": b"notes", "a/list.json": b"{}", ".hidden.jpg": b"", "._rgb.jpg": b"\0"})
    rows, drops = collect(folder_data(folder, instructions))
    assert {(row_id, reason) for row_id, reason, _ in drops} == {(name, reason) for name, (_, reason) in bad.items()}
    assert all(detail for *_, detail in drops)
    assert [row["image"]["path"] for row in rows] == [name for name in sorted(good) for _ in range(2)]
    for row in rows:
        name, stored = row["image"]["path"], row["image"]["bytes"]
        assert (stored == good[name]) == (name in PLAIN), f"plain files are stored unchanged: {name}"
        assert naively(stored).tobytes() == open_image(stored).tobytes(), f"other tools decode the same of {name}"
        assert row["image_sha256"] == hashlib.sha256(good[name]).hexdigest()
        assert row["prompt_id"] == make_id(row["image_sha256"], row["instruction"])
        assert (row["source"], row["split"], row["reference"]) == ("folder", "train", None)
    assert [row["instruction"] for row in rows[:2]] == ["Describe it.", "What is there?"]


def test_duplicates_limit_and_finished_prompts(tmp_path: Path, instructions: str) -> None:
    image = encoded(photo(40, 40), "PNG")
    write_files(tmp_path / "photos", {"1.png": image, "2.png": image, "3.png": encoded(photo(41, 40), "PNG")})
    rows, drops = collect(folder_data(tmp_path / "photos", instructions))
    assert [(row["image"]["path"], row["instruction"]) for row in rows] == [
        (name, text) for name in ("1.png", "3.png") for text in ("Describe it.", "What is there?")
    ]
    assert [(row_id, reason) for row_id, reason, _ in drops] == [
        (row["prompt_id"], "duplicate_prompt") for row in rows[:2]
    ]
    assert "2.png" in drops[0][2]
    limited, _ = collect(folder_data(tmp_path / "photos", instructions, limit=3))
    assert limited == rows[:3]
    rest, _ = collect(folder_data(tmp_path / "photos", instructions, limit=3), done={rows[0]["prompt_id"]})
    assert rest == rows[1:3]


def test_default_instructions_ask_for_descriptions() -> None:
    lines = read_instructions(None)
    assert len(lines) >= 3 and len(set(lines)) == len(lines) and all("escri" in line for line in lines)


def as_struct(images: list[bytes | None], folder: Path) -> pa.Array:
    cells = [image and {"bytes": image, "path": f"{index}.png"} for index, image in enumerate(images)]
    return pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))


def as_path(images: list[bytes | None], folder: Path) -> pa.Array:
    write_files(folder, {f"{index}.png": image for index, image in enumerate(images) if image})
    return pa.array([image and f"{index}.png" for index, image in enumerate(images)], pa.string())


def as_struct_of_paths(images: list[bytes | None], folder: Path) -> pa.Array:
    paths = as_path(images, folder).to_pylist()
    return pa.array([path and {"bytes": None, "path": path} for path in paths], as_struct([], folder).type)


@pytest.mark.parametrize("column", [as_bytes, as_struct, as_path, as_struct_of_paths])
def test_parquet_with_images_in_any_form(
    column: Callable[[list[bytes | None], Path], pa.Array], tmp_path: Path
) -> None:
    images = [encoded(photo(40 + index, 40), "PNG") for index in range(3)]
    cells = column([*images, None, b"no picture"], tmp_path / "data")
    data = parquet_file(tmp_path / "data", cells, ["q0", "  ", "q2", "q3", "q4"])
    rows, drops = collect(data)
    assert [(row["image"]["bytes"], row["instruction"]) for row in rows] == [(images[0], "q0"), (images[2], "q2")]
    assert [(row_id, reason) for row_id, reason, _ in drops] == [
        ("d.parquet:1", "missing_instruction"),
        ("d.parquet:3", "no_image"),
        ("d.parquet:4", "unreadable_image"),
    ]


def test_a_folder_of_parquet_files_and_a_missing_image(tmp_path: Path) -> None:
    image = encoded(photo(40, 40), "PNG")
    parquet_file(tmp_path / "data", as_bytes([image], tmp_path), ["b"], "2.parquet")
    data = parquet_file(tmp_path / "data", pa.array(["gone.png"]), ["a"], "1.parquet")
    rows, drops = collect(data.model_copy(update={"path": str(tmp_path / "data")}))
    assert [row["instruction"] for row in rows] == ["b"]
    assert [(row_id, reason) for row_id, reason, _ in drops] == [("1.parquet:0", "missing_image")]


def test_datasets_saved_to_disk_keep_the_encoded_bytes(tmp_path: Path) -> None:
    import datasets

    images = [encoded(photo(60, 40), "JPEG"), encoded(photo(41, 40, "RGBA"), "WEBP")]
    cells = [{"bytes": image, "path": None} for image in images]
    features = datasets.Features({"image": datasets.Image(), "question": datasets.Value("string")})
    dataset = datasets.Dataset.from_dict({"image": cells, "question": ["a", "b"]}, features=features)
    datasets.DatasetDict({"train": dataset, "val": dataset.select([1])}).save_to_disk(tmp_path / "set")
    data = DataSection(source="datasets", path=str(tmp_path / "set"))
    rows, drops = collect(data)
    assert [(row["image"]["bytes"], row["instruction"], row["split"]) for row in rows] == [
        (images[0], "a", "train"),
        (images[1], "b", "train"),
    ]
    assert not drops
    assert len(collect(data.model_copy(update={"split": "val"}))[0]) == 1
    with pytest.raises(InputError, match=r"no split 'test'; it has: train, val; set data\.split"):
        collect(data.model_copy(update={"split": "test"}))


def test_scenes_have_all_splits_and_a_reference() -> None:
    data = DataSection(train_prompts=5, validation_prompts=2, test_prompts=9, limit=4)
    rows, _ = collect(data)
    assert Counter(row["split"] for row in rows) == {"train": 4, "validation": 2, "test": 4}
    assert all(json.loads(row["reference"])["objects"] for row in rows)
    assert rows == collect(data)[0], "the same scenes every time"


def test_each_round_has_different_training_scenes_and_the_same_test_scenes() -> None:
    data = DataSection(train_prompts=5, train_parts=2, validation_prompts=2, test_prompts=3)

    def ids(round: int, train: bool) -> list[str]:
        return [row["prompt_id"] for row in collect(data, round=round)[0] if (row["split"] == "train") == train]

    assert not set(ids(1, True)) & set(ids(2, True)) and len(ids(2, True)) == 5
    assert ids(1, False) == ids(2, False) and ids(3, True) == ids(1, True)
    whole = collect(data.model_copy(update={"train_prompts": 10, "train_parts": 1}))[0]
    assert ids(1, True) + ids(2, True) == [row["prompt_id"] for row in whole if row["split"] == "train"]


def test_splits_depend_on_the_image_only(tmp_path: Path, instructions: str) -> None:
    files = {f"{width}.png": encoded(photo(8 + width, 8), "PNG") for width in range(200)}
    folder = tmp_path / "photos"
    write_files(folder, files)
    rows, _ = collect(folder_data(folder, instructions, validation_share=0.25, test_share=0.25))
    splits = Counter(row["split"] for row in rows)
    assert len(rows) == 400 and 60 < splits["validation"] < 140 and 60 < splits["test"] < 140
    by_image: dict[str, set[str]] = {row["image_sha256"]: set() for row in rows}
    for row in rows:
        by_image[row["image_sha256"]].add(row["split"])
    assert all(len(names) == 1 for names in by_image.values())
    (folder / "0.png").unlink()  # other images do not matter
    kept, _ = collect(folder_data(folder, instructions, validation_share=0.25, test_share=0.25))
    before = {row["prompt_id"]: row["split"] for row in rows}
    assert all(row["split"] == before[row["prompt_id"]] for row in kept)
    data = folder_data(folder, instructions, validation_share=0.25, test_share=0.25, train_parts=3)
    rounds = [{row["prompt_id"]: row["split"] for row in collect(data, round=round)[0]} for round in (1, 2, 3, 4)]
    assert rounds[3] == rounds[0] and sum(map(len, rounds[:3])) == len(kept) + 2 * (len(kept) - splits["train"])
    union = {prompt_id: split for part in rounds[:3] for prompt_id, split in part.items()}
    assert union == {row["prompt_id"]: row["split"] for row in kept}
    assert all(40 < Counter(part.values())["train"] < 100 for part in rounds)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_share": 0.1}, "set validation_prompts for scenes"),
        ({"source": "folder", "path": "x", "test_share": 0.5, "validation_share": 0.5}, "leave no training images"),
    ],
)
def test_invalid_shares(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataSection(**settings)


def test_images_are_loaded_ahead_and_returned_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads load several images at once; a slow one delays the later ones, and only a few pictures are read ahead."""
    monkeypatch.setattr("rlaif.sources.images.os.sched_getaffinity", lambda _: {0, 1, 2})
    checking, all_at_once = set(), threading.Barrier(3, timeout=30)
    read = 0

    def pictures() -> Iterator[Picture]:
        nonlocal read
        for index in range(40):
            read += 1
            yield Picture(str(index), b"" if index % 5 == 4 else png(index), ["Describe."], str(index))

    def slow(data: bytes, max_pixels: int) -> Image.Image:
        checking.add(threading.current_thread().name)
        if data in first:
            all_at_once.wait()  # or three are never in at the same time
        return opened(data, max_pixels)

    first, opened = {png(index) for index in range(3)}, model.images.open_image
    monkeypatch.setattr("model.images.open_image", slow)
    loaded = []
    for picture, image in load_images(pictures(), ()):
        loaded.append((picture.name, image.reason if isinstance(image, UnusableImageError) else image.content))
        assert read <= len(loaded) + 2 * 3
    assert loaded == [(str(index), "empty_image" if index % 5 == 4 else png(index)) for index in range(40)]
    assert len(checking) == 3 and threading.main_thread().name not in checking


def test_a_url_that_cannot_be_encoded_is_dropped() -> None:
    url = Picture("it", "https://images.example/\udcff.png", ["Describe."], "it")
    ((picture, problem),) = load_images([url], ["images.example"])
    assert picture is url and isinstance(problem, UnusableImageError) and problem.reason == "broken_image"


def png(number: int) -> bytes:
    return encoded(photo(20 + number, 20), "PNG")
