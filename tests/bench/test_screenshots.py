"""The pictures for docs/: all of them, small, the same again, and of copies of the runs."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.figures import screenshots
from bench.figures.screenshots import AUDIT, BROWSE, LARGEST, SCALE, WIDTH, main
from rlaif.report.page import report
from tests.support import ROOT
from tests.support.runs.browsed import CONFIG, generate, write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NAMES = {f"{shot.name}.webp" for shot in (*BROWSE, *AUDIT)}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
def test_all_pictures_are_taken_and_the_runs_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = write_run(tmp_path / "one"), write_run(tmp_path / "two", worse=1.0)
    report(CONFIG, run)
    before = files(run), files(other)
    arguments = ["--run", str(run), "--other", str(other), "--out"]
    monkeypatch.setattr(screenshots, "BROWSE", BROWSE[1:3] * 2 + BROWSE[-1:])  # the first two twice
    assert main([*arguments, str(tmp_path / "first")]) == 0
    assert (files(run), files(other)) == before
    lines = capsys.readouterr().out.splitlines()[-5 - len(AUDIT) :]
    assert lines[:2] == lines[2:4]  # the same again
    taken = files(tmp_path / "first")
    assert set(taken) == {f"{shot.name}.webp" for shot in (*BROWSE[1:3], BROWSE[-1], *AUDIT)}
    grey = {}
    for name in taken:
        image = Image.open(tmp_path / "first" / name)
        assert image.width == WIDTH * SCALE and len(image.convert("RGB").getcolors(2**24) or []) > 100
        grey[name] = np.asarray(image.convert("L")).mean()
    assert grey["browse-pairs.webp"] > 200 > 60 > grey["browse-pairs-dark.webp"]


def test_a_picture_may_not_be_large() -> None:
    noise = io.BytesIO()
    Image.effect_noise((1500, 1000), 100).save(noise, "PNG")
    with pytest.raises(ValueError, match=r"x has \d+,\d+ bytes, expected at most 150,000; give a run with simpler"):
        screenshots.encode(noise.getvalue(), "x")


def test_errors_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(write_run(tmp_path / "one"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert main(["--run", run, "--other", "", "--out", str(tmp_path)]) == 2
    assert main(["--run", run, "--other", run, "--out", str(tmp_path)]) == 2
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["--run", run, "--other", run, "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: OTHER is not set; give another run of the same prompts, to show both side by side",
        f"error: {run} has no report.html, and a picture shows its gallery; run `make report RUN={run}`",
        "error: Chromium is not on this machine, and it takes the pictures; install it with `apt-get install chromium`",
    ]


def test_runs_that_cannot_be_shown(tmp_path: Path) -> None:
    generate(tmp_path / "new")
    with pytest.raises(ValueError, match=r"new has no pairs.parquet, .*; run `make feedback RUN=.*/new`"):
        screenshots.copy_run(tmp_path / "new", tmp_path / "copies")
    run, other = write_run(tmp_path / "one"), tmp_path / "empty"
    other.mkdir()
    shutil.copy(run / "pairs.parquet", other)
    assert screenshots.shared_prompt(run, other) == "p1"
    write_no_pairs(other)
    with pytest.raises(ValueError, match="one and empty have no prompt with pairs in common; give another OTHER="):
        screenshots.shared_prompt(run, other)


def write_no_pairs(folder: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(pq.read_table(folder / "pairs.parquet").slice(0, 0), folder / "pairs.parquet")


def test_the_pictures_of_the_documentation_are_all_there() -> None:
    for name in NAMES:
        file = ROOT / "docs" / "assets" / name
        assert file.stat().st_size <= LARGEST
        pages = [
            page for page in (ROOT / "docs").glob("*.md") if f"(assets/{name})" in page.read_text(encoding="utf-8")
        ]
        assert pages, f"{name} is on no page"
