"""Photographs of a phone from a folder to prompts, pairs and every export: the same picture everywhere."""

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dpo.collator import open_images
from feedback.stage import feedback
from generation.stage import generate
from model.images import open_image
from rlaif.config import Config
from rlaif.inference.chat import data_url
from rlaif.interchange.export import export
from rlaif.interchange.importer.stage import import_data
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from tests.support import EMBEDDED_PROMPTS
from tests.support.doubles import ASK, ScriptedEngine, circle_labeler, circle_policy
from tests.support.exported_run import exported_images
from tests.support.photographs import CORNERS, corners, encoded, naively, turned, upright, write_files
from tests.support.synthetic_run import model_folder

SIZE, SMALL = (3000, 4000), (300, 400)  # upright
FAST: dict[str, Any] = {"quality": 40, "enc_params": {"preset": "ultrafast"}}  # of the HEVC encoder
KINDS = ("trl", "rlaif-v", "llama-factory", "ms-swift")


@pytest.mark.slow
def test_photographs_of_12_megapixels_look_the_same_everywhere(tmp_path: Path) -> None:
    """HEIC with a rotation box and with the orientation in EXIF alone; beside them a rotated JPEG and a plain one."""
    plain = encoded(upright(*SMALL), "JPEG")
    photographs = {
        "IMG_0001.HEIC": turned("HEIF", 6, size=SIZE, **FAST),
        "\u7167\u7247/IMG_0002.heic": turned("HEIF", 8, as_bytes=False, size=SIZE, **FAST),
        "IMG_0003.jpg": turned("JPEG", 6, size=SMALL),
        "plain.jpeg": plain,
    }
    write_files(tmp_path / "photos", photographs)
    (tmp_path / "ask.txt").write_text(ASK)
    model = {"model": str(model_folder(tmp_path / "model", "m"))}
    settings = {
        "policy": model,
        "labeler": model,
        "data": {"source": "folder", "path": str(tmp_path / "photos"), "instructions": str(tmp_path / "ask.txt")},
        "generation": {"num_responses": 2},
        "feedback": {"prompts": EMBEDDED_PROMPTS},
    }
    config, path = Config.model_validate(settings), tmp_path / "run"
    policy_engine, labeler_engine = ScriptedEngine(circle_policy({})), ScriptedEngine(circle_labeler)
    generate(config, path, lambda *_: policy_engine)
    feedback(config, path, lambda *_: labeler_engine)
    run = Run(path, config, "test")
    assert not list(read_rows(run, "dropped"))

    stored = {row["prompt_id"]: row["image"] for row in read_rows(run, "prompts")}
    assert {image["path"] for image in stored.values()} == photographs.keys()
    files = {image["path"]: image["bytes"] for image in stored.values()}
    for name, content in files.items():
        assert naively(content).size == (SIZE if name.lower().endswith("heic") else SMALL)
        assert corners(naively(content)) == list(CORNERS)
        assert naively(content).tobytes() == open_image(content).tobytes()
        assert len(content) < 2_000_000
    assert files["plain.jpeg"] == plain

    judged = [request.image for engine in (policy_engine, labeler_engine) for request in engine.requests]
    assert {content for content in judged if content is not None} == set(files.values())
    for content in files.values():
        assert base64.b64decode(data_url(content).partition("base64,")[2]) == content

    pairs = list(read_rows(run, "pairs"))
    assert len(pairs) == 4
    of_pair = {pair["pair_id"]: stored[pair["prompt_id"]]["bytes"] for pair in pairs}
    for pair in pairs:
        assert pair["images"][0]["bytes"] == of_pair[pair["pair_id"]]
        assert open_images(pair)[0].tobytes() == naively(of_pair[pair["pair_id"]]).tobytes()
    for image, pair in zip(loaded(path / "pairs.parquet", tmp_path), pairs, strict=True):
        assert image.convert("RGB").tobytes() == naively(of_pair[pair["pair_id"]]).tobytes()

    for kind in KINDS:
        settings["export"] = {"format": kind}
        folder = export(Config.model_validate(settings), path)
        assert sorted(exported_images(folder, kind)) == sorted(of_pair.values())


def test_imported_photographs_are_stored_as_generated_ones_are(tmp_path: Path) -> None:
    photographs = {"a.heic": turned("HEIF", 6), "b.jpg": turned("JPEG", 8), "c.png": encoded(upright(), "PNG")}
    large = encoded(upright(200, 200), "PNG")
    write_files(tmp_path, {**photographs, "large.png": large})
    rows = [{"image": name, "question": "What?", "chosen": "Red.", "rejected": "Blue."} for name in photographs]
    rows.append({**rows[0], "image": "large.png"})
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = {"model": "p"}
    data = {"source": "import", "path": str(tmp_path / "pairs.jsonl"), "max_pixels": 30_000}
    config = Config.model_validate({"policy": model, "labeler": model, "data": data})
    import_data(config, tmp_path / "run")
    run = Run(tmp_path / "run", config, "test")
    contents = [pair["images"][0]["bytes"] for pair in read_rows(run, "pairs")]
    assert [Image.open(io.BytesIO(content)).format for content in contents] == ["JPEG", "JPEG", "PNG"]
    assert [corners(naively(content)) for content in contents] == [list(CORNERS)] * 3
    assert contents[2] == photographs["c.png"]
    (dropped,) = read_rows(run, "dropped")
    assert dropped["reason"] == "image_too_large"
    assert dropped["detail"].endswith("40,000 pixels, at most 30,000 are read; raise data.max_pixels")
    sources = {row["image"]["path"]: row["image_sha256"] for row in read_rows(run, "prompts")}
    assert sources == {name: hashlib.sha256(data).hexdigest() for name, data in photographs.items()}


def loaded(table: Path, folder: Path) -> list[Image.Image]:
    """The images of `pairs` as stock tools load them."""
    from datasets import load_dataset

    data = load_dataset("parquet", data_files=str(table), split="train", cache_dir=str(folder / "cache"))
    return [row["images"][0] for row in data]
