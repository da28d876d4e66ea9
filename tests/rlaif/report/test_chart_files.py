"""The charts of the report as PNG files: what they show, and what is an error."""

import io
from pathlib import Path

import numpy as np
import pytest
import resvg_py
from PIL import Image

from rlaif.errors import InputError
from rlaif.report import chart_files
from rlaif.report.__main__ import main
from rlaif.report.chart_files import SCALE, file_name, rasterize, standalone
from rlaif.report.charts import Group, Line, histogram, line_chart
from rlaif.report.page import chart_files as write_files
from tests.support.project.make import dry_run
from tests.support.synthetic_run import make_run

BLUE, RED = (44, 111, 174), (201, 87, 43)  # chosen and rejected, in the light theme


def colors(svg: str) -> dict[tuple[int, ...], int]:
    image = Image.open(io.BytesIO(rasterize(svg))).convert("RGB")
    assert image.size == (600 * SCALE, 332 * SCALE)
    return {color: count for count, color in image.getcolors(2**24) or []}  # type: ignore[misc]


def test_each_chart_of_a_run_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, path = make_run(tmp_path)
    folder = write_files(config, path)
    names = ["answers-of-the-pairs", "claims-by-p-yes", "loss", "rewards"]
    assert sorted(file.stem for file in folder.iterdir()) == names and folder == path / "figures"
    said = capsys.readouterr().out
    assert all(f"wrote    {folder / name}.png" in said for name in names)
    before = {file: file.read_bytes() for file in folder.iterdir()}
    write_files(config, path)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_lines_and_bars_have_the_colors_of_the_legend() -> None:
    lines = [Line("chosen", "chosen", [(0, 0), (1, 1)]), Line("rejected", "rejected", [(0, 1), (1, 0)])]
    both = colors(standalone({"title": "Both", "lines": lines, "svg": line_chart(lines, x_label="step")}))
    one = colors(standalone({"title": "One", "lines": lines[:1], "svg": line_chart(lines[:1], x_label="step")}))
    assert both[BLUE] > 2000 and both[RED] > 2000 and one[BLUE] > 2000 and RED not in one
    assert max(both, key=both.__getitem__) == (255, 255, 255)
    groups = [Group("rejected", "rejected", [1, 2, 2])]
    svg = histogram(groups, low=0, high=4, bins=4, x_label="words")
    bars = colors(standalone({"title": "Bars", "groups": groups, "svg": svg}))
    faded = [0.55 * channel + 0.45 * 255 for channel in RED]  # over white
    assert sum(count for color, count in bars.items() if np.allclose(color, faded, atol=1.5)) > 50_000


def test_points_are_marked_where_they_are_few() -> None:
    def blue(count: int) -> int:
        lines = [Line("a", "chosen", [(x, 0.0) for x in range(count)])]
        return colors(standalone({"title": "A", "lines": lines, "svg": line_chart(lines, x_label="step")}))[BLUE]

    assert blue(20) > 2 * blue(21)


def test_texts_are_escaped() -> None:
    lines = [Line("<b>&", "chosen", [(0, 0), (1, 1)])]
    svg = standalone({"title": "<script>", "lines": lines, "svg": line_chart(lines, x_label="</svg>")})
    assert "<b>" not in svg and "<script>" not in svg and rasterize(svg)


def test_a_machine_without_fonts_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    real = resvg_py.svg_to_bytes
    monkeypatch.setattr(resvg_py, "svg_to_bytes", lambda **given: real(skip_system_fonts=True, **given))
    lines = [Line("a", "chosen", [(0, 0), (1, 1)])]
    with pytest.raises(InputError, match="no font for the texts of a chart; install one, such as fonts-dejavu-core"):
        rasterize(standalone({"title": "A", "lines": lines, "svg": line_chart(lines, x_label="step")}))


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    arguments = ["--config", "configs/demo.yaml", "--run", str(tmp_path / "run")]
    assert main([*arguments, "--format", "png"]) == 2
    assert main([*arguments, "--format", "pdf"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {tmp_path}/run has nothing to draw yet; first run `make feedback RUN={tmp_path}/run`",
        "error: FORMAT is 'pdf', expected html, the report, or png, its charts; correct FORMAT=",
    ]
    assert not (tmp_path / "run" / chart_files.FOLDER).exists() and not (tmp_path / "run" / "report.html").exists()


def test_make_hands_the_format_over() -> None:
    assert "-m rlaif.report" in dry_run("report") and "--format" not in dry_run("report")
    assert dry_run("report", "FORMAT=png").strip().endswith("--format 'png'")


def test_file_names() -> None:
    assert [file_name(title) for title in ("Claims by p(yes)", "Log-probability of an answer")] == [
        "claims-by-p-yes",
        "log-probability-of-an-answer",
    ]
