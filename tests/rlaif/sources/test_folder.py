"""Which files of a folder are images, and what is said of the others."""

from collections import Counter
from pathlib import Path

import pytest

from generation.sources import source_files
from generation.stage import generate
from rlaif.config import Config, DataSection
from rlaif.errors import InputError
from rlaif.sources.folder import files_below, summary
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from tests.support.doubles import ScriptedEngine
from tests.support.photographs import encoded, photo, write_files
from tests.support.synthetic_run import model_folder

PNG = encoded(photo(30, 20), "PNG")
HEIC = encoded(photo(64, 64), "HEIF")
JUNK = {
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
    "desktop.ini": b"[.ShellClassInfo]",
    ".DS_Store": b"\0\0\0\1Bud1",
    "._a.jpg": b"\0\5\x16\7",
    "__MACOSX/a.jpg": PNG,
    "@eaDir/a.jpg/thumbnail.jpg": PNG,
    "a.jpg.tmp": PNG,
    "b.jpg.part": PNG,
    "IMG_0001.AAE": b"<?xml",
    "IMG_0001.MOV": b"\0\0\0\x14ftypqt  ",
    "m.npy": b"\x93NUMPY",
    "c.parquet": b"PAR1",
    "captions.json": b"[]",
    "LICENSE": b"Permission is granted",
    "empty": b"",
    "photo.nef": b"MM\0*",
}
IMAGES = {
    "a.JPG": PNG,
    "IMG_0001.HEIC": HEIC,
    "\u7167\u7247/\u56fe.PnG": PNG,
    "caf\u00e9 \U0001f600.jpeg": PNG,
    "no-suffix": PNG,
    "picture.jpg?size=large": PNG,
    "photo.heic.1": HEIC,
    "text.jpg": b"this is no picture",
}


def test_files_are_images_by_suffix_or_first_bytes(tmp_path: Path) -> None:
    write_files(tmp_path, {**JUNK, **IMAGES})
    names, others = files_below(tmp_path)
    assert names == sorted(IMAGES)
    assert others == {
        "hidden": 4,
        **dict.fromkeys((".db", ".ini", ".tmp", ".part", ".aae", ".mov", ".npy", ".parquet", ".json", ".nef"), 1),
        "without suffix": 2,
    }


def test_the_summary_names_the_most_frequent_kinds() -> None:
    assert summary(Counter({".npy": 50_000, ".db": 2, "without suffix": 1})) == (
        "50,003 other files (50,000 .npy, 2 .db, 1 without suffix)"
    )
    assert summary(Counter("abcdef" + "f")) == "7 other files (2 f, 1 a, 1 b, 1 c, and others)"


def test_junk_is_one_line_and_no_row_of_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junk = {f"arrays/{index}.npy": b"\x93NUMPY" for index in range(300)}
    write_files(tmp_path / "photos", {**junk, **JUNK, **IMAGES})
    model = {"model": str(model_folder(tmp_path / "model", "m"))}
    data = {"source": "folder", "path": str(tmp_path / "photos")}
    config = Config.model_validate({"policy": model, "labeler": model, "data": data})
    generate(config, tmp_path / "run", lambda *_: ScriptedEngine(lambda _: ["A."] * 10))
    line = "  skipped  316 other files (301 .npy, 4 hidden, 2 without suffix, 1 .aae, and others)"
    skipped = [text for text in capsys.readouterr().out.splitlines() if "skipped" in text]
    assert skipped == [f"{line} in {tmp_path / 'photos'}"]
    run = Run(tmp_path / "run", config, "test")
    reasons = [(row["row_id"], row["reason"]) for row in read_rows(run, "dropped")]
    assert [row for row in reasons if row[1] != "duplicate_prompt"] == [("text.jpg", "unreadable_image")]


def test_new_junk_leaves_the_identity_of_a_folder(tmp_path: Path) -> None:
    data = DataSection(source="folder", path=str(tmp_path))
    write_files(tmp_path, IMAGES)
    before = source_files(data)
    write_files(tmp_path, JUNK)
    assert source_files(data) == before
    write_files(tmp_path, {"another.png": PNG})
    assert source_files(data) != before


def test_a_folder_without_images(tmp_path: Path) -> None:
    write_files(tmp_path / "photos", {"a.npy": b"", "b.npy": b""})
    model = {"model": str(model_folder(tmp_path / "model", "m"))}
    config = Config.model_validate(
        {"policy": model, "labeler": model, "data": {"source": "folder", "path": str(tmp_path / "photos")}}
    )
    with pytest.raises(InputError, match=r"^2 other files \(2 \.npy\), no images in .*photos; expected JPEG"):
        generate(config, tmp_path / "run", lambda *_: ScriptedEngine(lambda _: ["A."]))
    assert not (tmp_path / "run" / "prompts.parquet").exists()
