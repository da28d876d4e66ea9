"""Exports: the rows of each format, literally."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from model.images import open_image
from rlaif.errors import InputError
from rlaif.interchange.__main__ import main
from rlaif.storage.run import Run
from rlaif.storage.schemas import RLAIF_V, SCHEMAS
from rlaif.storage.writer import TableWriter
from tests.support.exported_run import (
    PAIRS,
    dropped,
    export_config,
    exported,
    exported_images,
    front_matter,
    json_lines,
    labeled_run,
)
from tests.support.pair_rows import pair_row, png
from tests.support.photographs import encoded, naively, photo


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return labeled_run(tmp_path / "my run")


def test_trl_rows_are_unchanged(path: Path) -> None:
    folder = exported(path, "trl")
    assert folder == path / "export" / "trl"
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "train.parquet", "validation.parquet"]
    train = pq.read_table(folder / "train.parquet")
    assert train.schema.metadata == SCHEMAS["pairs"].metadata  # the features; not the settings, which name folders
    assert [row["pair_id"] for row in train.to_pylist()] == ["one", "two", "three"]
    assert [pq.read_table(folder / "validation.parquet").to_pylist()] == [PAIRS[3:]]
    assert train.equals(pq.read_table(path / "pairs.parquet").slice(0, 3))
    assert pq.ParquetFile(folder / "train.parquet").num_row_groups == 3  # a part of `pairs` at a time


def test_trl_loads_the_images(path: Path, tmp_path: Path) -> None:
    from datasets import load_dataset
    from trl.data_utils import is_conversational

    folder = exported(path, "trl")
    configs = front_matter(folder)["configs"]
    assert configs == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": "train.parquet"},
                {"split": "validation", "path": "validation.parquet"},
            ],
        }
    ]
    data = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))  # by the card's front matter, as the hub does
    assert {split: len(rows) for split, rows in data.items()} == {"train": 3, "validation": 1}
    example = data["train"][1]
    assert is_conversational(example)
    assert example["images"][0].size == (112, 56)
    assert example["rejected"] == [{"role": "assistant", "content": "Two."}]


def test_rlaif_v_has_the_columns_of_its_data_set(path: Path) -> None:
    folder = exported(path, "rlaif-v")
    table = pq.read_table(folder / "train.parquet")
    columns = "ds_name image question chosen rejected origin_dataset origin_split idx image_path"
    assert table.schema.names == columns.split()
    assert {str(field.type) for field in table.schema if field.name != "image"} == {"string"}
    assert table.schema.metadata == RLAIF_V.metadata
    row = table.to_pylist()[1]
    assert json.loads(row.pop("origin_split")) == {
        "model": "policy (revision aaaa)",
        "labeler": "owner/labeler (revision bbbb)",
    }
    assert row == {
        "ds_name": "my run",
        "image": {"bytes": png((112, 56)), "path": None},
        "question": "Describe.",
        "chosen": "There is one circle.",
        "rejected": "Two.",
        "origin_dataset": "folder",
        "idx": "two",
        "image_path": None,
    }


def test_rlaif_v_is_loaded_by_datasets(path: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    data = load_dataset(str(exported(path, "rlaif-v")), split="train", cache_dir=str(tmp_path / "cache"))
    assert data[0]["image"].size == (56, 56)
    assert {feature.dtype for name, feature in data.features.items() if name != "image"} == {"string"}


def test_a_pair_without_an_image_does_not_fit_rlaif_v(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run = Run(other, export_config(), "feedback")
    run.begin(["pairs"], {}, inputs=[])
    with TableWriter(run, "pairs", key="prompt_id") as writer:
        writer.write([pair_row("blind", "What?", "A.", "B.", size=None)])
    run.finish({}, None)
    for table in ("prompts", "responses"):
        (other / f"{table}.parquet").write_bytes((path / f"{table}.parquet").read_bytes())
    with pytest.raises(InputError, match=r"none of the 1 pairs of .*other can be exported as rlaif-v"):
        exported(other, "rlaif-v")
    assert not (other / "export" / "rlaif-v").exists()
    assert json_lines(exported(other, "ms-swift") / "train.jsonl")[0]["images"] == []


def test_llama_factory_by_its_rules(path: Path) -> None:
    folder = exported(path, "llama-factory")
    first, second = json_lines(folder / "train.jsonl")
    assert first == {
        "messages": [{"role": "user", "content": "<image>What is it?"}],
        "chosen": {"role": "assistant", "content": "A red circle."},
        "rejected": {"role": "assistant", "content": "A red circle, and a\nblue star \u2028 there."},
        "images": first["images"],
    }
    assert second["messages"] == [{"role": "user", "content": "<image>Describe."}]
    assert (folder / first["images"][0]).read_bytes() == png((56, 56))
    assert (folder / second["images"][0]).read_bytes() == png((112, 56))
    assert [row["chosen"]["content"] for row in json_lines(folder / "validation.jsonl")] == ["A circle."]
    columns = {"messages": "messages", "chosen": "chosen", "rejected": "rejected", "images": "images"}
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    assert json.loads((folder / "dataset_info.json").read_text()) == {
        f"my_run_{split}": {
            "file_name": f"{split}.jsonl",
            "formatting": "sharegpt",
            "ranking": True,
            "columns": columns,
            "tags": tags,
        }
        for split in ("train", "validation")
    }
    for row in json_lines(folder / "train.jsonl"):  # as many marks as images, or LLaMA-Factory stops
        texts = [message["content"] for message in [*row["messages"], row["chosen"], row["rejected"]]]
        assert "".join(texts).count("<image>") == len(row["images"]) == 1
    assert dropped(path, "export-llama-factory") == [("three", "image_mark_in_text", "<image> in prompt")]


def test_ms_swift_by_its_rules(path: Path) -> None:
    folder = exported(path, "ms-swift")
    first, second = json_lines(folder / "train.jsonl")
    assert first.keys() == {"messages", "rejected_response", "images"}
    assert second == {
        "messages": [
            {"role": "user", "content": "<image>Describe."},
            {"role": "assistant", "content": "There is one circle."},
        ],
        "rejected_response": "Two.",
        "images": second["images"],
    }
    assert not (folder / "validation.jsonl").exists()
    assert dropped(path, "export-ms-swift") == [
        ("three", "image_mark_in_text", "<image> in prompt"),
        ("four", "image_mark_in_text", "<bbox> in rejected"),
    ]
    assert front_matter(folder)["configs"][0]["data_files"] == [{"split": "train", "path": "train.jsonl"}]


def test_equal_images_are_one_file(path: Path) -> None:
    assert len(list((exported(path, "llama-factory") / "images").iterdir())) == 2  # (56, 56) twice, (112, 56)


@pytest.mark.parametrize("kind", ["trl", "rlaif-v", "llama-factory", "ms-swift"])
def test_other_tools_decode_the_images_that_were_judged(path: Path, tmp_path: Path, kind: str) -> None:
    """Pairs of an import or an older run: rotated, transparent, 16 bits. A plain image keeps its bytes."""
    rotation = Image.Exif()
    rotation[0x0112] = 6
    files = {
        "plain": encoded(photo(6, 4), "JPEG"),
        "rotated": encoded(photo(6, 4), "JPEG", exif=rotation),
        "transparent": encoded(photo(6, 4, "RGBA").crop((-1, -1, 6, 4)), "PNG"),
        "deep": encoded(Image.fromarray(np.arange(24, dtype=np.uint16).reshape(4, 6) * 2800), "PNG"),
        "heic": encoded(photo(64, 48), "HEIF", exif=rotation.tobytes()),
    }
    folder = export_of(path, tmp_path / "other", kind, {**files, "broken": b"no image"})
    contents = dict(zip(files, exported_images(folder, kind), strict=True))
    for name, content in contents.items():
        assert Image.open(io.BytesIO(content)).format == ("JPEG" if name == "plain" else "PNG")
        assert naively(content).tobytes() == open_image(files[name]).tobytes()
    assert contents["plain"] == files["plain"]
    assert naively(contents["rotated"]).size == (4, 6) and naively(contents["heic"]).size == (48, 64)
    assert dropped(tmp_path / "other", f"export-{kind}")[-1][:2] == ("broken", "unusable_image")


def export_of(path: Path, other: Path, kind: str, files: dict[str, bytes]) -> Path:
    """The export of a run with a pair for each image, named after it; `path` has its other tables."""
    run = Run(other, export_config(), "feedback")
    run.begin(["pairs"], {}, inputs=[])
    with TableWriter(run, "pairs", key="prompt_id") as writer:
        for name, data in files.items():
            row = pair_row(name, "What?", f"A {name}.", "B.", size=None)
            writer.write([{**row, "images": [{"bytes": data, "path": f"{name}.jpg"}]}])
    run.finish({}, None)
    for table in ("prompts", "responses"):
        (other / f"{table}.parquet").write_bytes((path / f"{table}.parquet").read_bytes())
    return exported(other, kind)


def test_a_killed_export_starts_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rlaif.interchange.export.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            exported(path, "ms-swift")
    assert not (path / "export").exists() or not any((path / "export").iterdir())
    folder = exported(path, "ms-swift")
    assert len(json_lines(folder / "train.jsonl")) == 2
    assert not (path / "export-ms-swift").exists()
    assert len(dropped(path, "export-ms-swift")) == 2


def test_missing_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"pairs.parquet is missing; first run `make feedback"):
        exported(tmp_path / "nothing", "trl")
    config = tmp_path / "config.yaml"
    config.write_text("policy: {model: p}\nlabeler: {model: l}\n")
    arguments = ["--config", str(config), "--run", str(tmp_path / "nothing"), "--set"]
    assert main([*arguments, "export.format=csv"]) == 2
    assert main([*arguments, "export.push=not-a-name"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "export.format is 'csv': input should be 'trl', 'rlaif-v', 'llama-factory' or 'ms-swift'" in errors[0]
    assert "export.push is 'not-a-name': string should match pattern" in errors[1]
