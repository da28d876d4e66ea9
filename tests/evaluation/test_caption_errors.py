"""Errors of captions before and after rewriting, by hand and of a small run."""

from pathlib import Path

import pytest

from evaluation.caption_errors import Errors, find_errors, main, measure
from generation.rewrite import rewrite
from rlaif.errors import InputError
from rlaif.storage.run import Run
from scenes.truth import SceneTruth
from tests.support.captions.rewriting import make_config, raw_table, rewritten
from tests.support.captions.scene_truth import reference_of, thing
from tests.support.doubles import ScriptedEngine

CAR, BOOK = thing("car", "top", color="red", size="small"), thing("book", "left", color="blue", size="large")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("There is a red car at the top. I can also see a large blue book on the left.", set()),
        ("There is a red car at the top.", {"lost"}),
        ("A red car at the top, a green book on the left.", {"lost", "false"}),
        ("A red car, a blue book, a blue book on the left.", {"repeated"}),
        ("A red car at the top and a blue book. Click here.", {"stray"}),
        ("", {"lost"}),
    ],
)
def test_errors_of_a_caption(text: str, wrong: set[str]) -> None:
    errors = find_errors(text, SceneTruth(reference_of(CAR, BOOK)))
    assert errors == Errors(**{name: name in wrong for name in ("lost", "false", "repeated", "stray")})
    assert errors.error == bool(wrong - {"stray"})


def test_measured_shares(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = reference_of(CAR)
    captions: list[str | None] = ["redcar at teh tpo", "a red car", "IMG_1.jpg", "a blue book"]
    table = raw_table(tmp_path / "raw.parquet", captions, source=["scenes"] * 4, reference=[truth] * 4)
    config = make_config(tiny_model, table)
    rewrite(config, tmp_path / "run", lambda *_: ScriptedEngine(rewritten))
    capsys.readouterr()
    measure(config, tmp_path / "run")
    assert capsys.readouterr().out.splitlines()[:3] == [
        f"{'':36}{'raw':>20}{'kept, raw':>20}{'rewritten':>20}",
        f"{'captions':36}{4:>20}{3:>20}{3:>20}",
        f"{'with an error':36}{'75.0% [25.0, 100.0]':>20}{'66.7% [0.0, 100.0]':>20}{'33.3% [0.0, 100.0]':>20}",
    ]
    figures = Run(tmp_path / "run", config, "x").metrics()["rewrites"]
    assert figures["kept_after"] == {
        "captions": 3, "error": 1 / 3, "lost": 1 / 3, "false": 1 / 3, "repeated": 0, "stray": 0
    }  # fmt: skip
    other = raw_table(tmp_path / "other.parquet", ["else"] * 4, reference=[truth] * 4).rename(table)
    with pytest.raises(InputError, match=r"rewrites.parquet and .* have different captions \(raw.parquet:0\)"):
        measure(make_config(tiny_model, other), tmp_path / "run")


def test_without_truth_there_is_nothing_to_measure(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(tiny_model, raw_table(tmp_path / "raw.parquet", ["a red book"]))
    rewrite(config, tmp_path / "run", lambda *_: ScriptedEngine(rewritten))
    (tmp_path / "c.yaml").write_text(f"rewriter: {{model: x}}\ncaptions: {{path: {tmp_path}/raw.parquet}}\n")
    command = ["--config", str(tmp_path / "c.yaml"), "--run"]
    assert main([*command, str(tmp_path / "run")]) == 0
    assert "no truth is known" in capsys.readouterr().out
    assert main([*command, str(tmp_path / "none")]) == 2
    assert "rewrites.parquet is missing; first run `make rewrite-captions" in capsys.readouterr().err
