"""Result files from run folders and from what a command printed."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.figures.results import read_result
from bench.figures.tables import SELECTORS, TABLES
from bench.record import FROM_RUNS, main, tables_in
from evaluation import compare_labelers
from evaluation.agreement import Agreement
from evaluation.compare_labelers import Side

FIGURES = {"mention_rate": 0.2, "response_rate": 0.4, "recall": 0.8, "mean_words": 20.0}
AGREEMENT = ("claim_accuracy", "split_accuracy", "pair_agreement", "pair_ties")
WHOLE = ("whole_response_same_pairs_agreement", "whole_response_pair_agreement")
METRICS: dict[str, Any] = {
    "seeds": {"seed": 3, "round": 1},
    "before": FIGURES,
    "after": FIGURES,
    "change": {"mention_rate": -0.5, "recall": 0.1, "mean_words": 0.0},
    "labeler": dict.fromkeys((*AGREEMENT, *WHOLE), 0.9),
    "intervals": {"change": {"mention_rate": [-0.6, -0.4]}, "best_of_n": {}, "rewrites": {}},
    "stages": {"dpo": {"seconds": 30.0}},
    "best_of_n": {selector: {"1": FIGURES, "2": FIGURES} for selector in SELECTORS},
    "benchmarks": {
        "chair": {
            which: {"figures": {"mention_rate": 0.2}, "intervals": {}, "answers": 9} for which in ("before", "after")
        }
    },
    "rewrites": {which: {"captions": 5, "error": 0.5, "stray": 0.2} for which in ("raw", "kept_before", "kept_after")},
}
CANDIDATES = [
    {"name": name, "round": number, "folder": "round-1", "figures": FIGURES, "intervals": {}}
    for number, name in enumerate(("start", "round 1"))
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    for path in (folder, folder / "best-of-n", folder / "whole-response"):
        path.mkdir()
        (path / "metrics.json").write_text(json.dumps(METRICS))
    sampling = {"settings": {"generation": {"temperature": 0.7}}}
    (folder / "best-of-n" / "generation.json").write_text(json.dumps(sampling))
    (folder / "rounds.json").write_text(json.dumps({"chosen": 1, "candidates": CANDIDATES}))
    return folder


@pytest.mark.parametrize("name", [name for name in FROM_RUNS if name != "labeler-precision"])
def test_recorded_figures_fill_the_tables(name: str, run: Path, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.json"
    assert main([name, str(run), "--out", str(file)]) == 0
    result = read_result(name, tmp_path)
    assert result.command.startswith("make ") and "Python" in result.machine and result.commit
    tables = [render for source, render in TABLES.values() if source == name]
    assert tables and all(render(result.figures).count("\n") > 1 for render in tables)


def test_runs_are_recorded_by_seed(run: Path, tmp_path: Path) -> None:
    main(["demo", str(run), "--out", str(tmp_path / "demo.json"), "--note", "a try"])
    result = read_result("demo", tmp_path)
    assert list(result.figures) == ["3"] and result.note == "a try"
    assert result.figures["3"]["after"] == FIGURES


def test_best_of_n_is_recorded_by_temperature(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["best-of-n", str(run), "--out", str(tmp_path / "best-of-n.json")])
    figures = read_result("best-of-n", tmp_path).figures
    assert list(figures) == ["0.7"] and figures["0.7"]["reward"]["2"] == FIGURES
    assert main(["best-of-n", str(run), str(run), "--out", str(tmp_path / "best-of-n.json")]) == 2
    assert "has temperature 0.7 again; name one run of each temperature" in capsys.readouterr().err


def test_two_labelers_are_recorded_by_their_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agreement = Agreement()
    for first, second, times in ((True, True, 20), (True, False, 5), (False, True, 10), (False, False, 15)):
        agreement.add_verdicts(first, second, times)
    sides = Side(tmp_path / "demo"), Side(tmp_path / "bfloat16")
    for side, right in zip(sides, (True, False), strict=True):
        side.calibration.add(0.9, True, right)
    monkeypatch.setattr(compare_labelers, "compare", lambda *folders: (*sides, agreement))
    file = tmp_path / "labeler-precision.json"
    assert main(["labeler-precision", *(str(side.path) for side in sides), "--out", str(file)]) == 0
    figures = read_result("labeler-precision", tmp_path).figures
    assert figures["demo"]["kappa"] == pytest.approx(0.4)
    assert TABLES["labeler-precision"][1](figures).splitlines()[::2] == [
        "|  | demo | bfloat16 |",
        "| verdicts right | 100.0% | 0.0% |",
    ]


def test_markdown_tables_of_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = "1 core\n\n| images | dpo |\n|---|---|\n| 100 | 2.0 s |\nline\n| slices | dpo |\n|---|---|\n"
    first, second = tables_in(output)
    assert first == {"columns": ["images", "dpo"], "rows": [["100", "2.0 s"]]}
    assert second == {"columns": ["slices", "dpo"], "rows": []}
    printed, out = tmp_path / "growth.txt", ["--out", str(tmp_path / "growth.json")]
    printed.write_text(output)
    assert main(["growth", str(printed), *out]) == 2
    assert "describe it with --title and --command" in capsys.readouterr().err
    assert main(["growth", str(printed), *out, "--title", "Growth", "--command", "make bench-growth"]) == 0
    assert main(["growth", str(printed), *out]) == 0  # title and command are kept
    assert read_result("growth", tmp_path).title == "Growth"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "nowhere"], "nowhere/metrics.json does not exist; name the folder of a finished run"),
        (["labeler-precision", "a"], "got 1 run folders with 1 names; name two runs of different labelers"),
        (["labeler-precision", "a/demo", "b/demo"], "got 2 run folders with 1 names"),
        (["ablations", "a", "b"], "got 2 run folders; this result is recorded from exactly one"),
        (["growth", "bench"], "bench is not a file; 'growth' is recorded from files with the output of a command"),
        (["growth", "Makefile"], "no Markdown table in Makefile; expected files with the output of a command"),
    ],
)
def test_sources_that_have_no_figures(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "x.json")]) == 2
    assert message in capsys.readouterr().err


def test_runs_that_have_not_got_so_far_replace_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "demo.json"
    assert main(["demo", str(run), "--out", str(file)]) == 0
    recorded = file.read_bytes()
    (run / "metrics.json").write_text(json.dumps({name: METRICS[name] for name in ("seeds", "before")}))
    for part in ("rounds.json", "whole-response/metrics.json"):
        (run / part).unlink()
    for name, message in (
        ("demo", "has no 'after'; name the folder of a run that has got so far"),
        ("rounds", "has no 'after'"),
        ("ablations", "has no variant of configs/ablations.yaml"),
        ("benchmarks", "has no 'benchmarks'"),
        ("rewrite-captions", "has no 'rewrites'"),
    ):
        assert main([name, str(run), "--out", str(file)]) == 2
        assert message in capsys.readouterr().err
    (run / "metrics.json").write_text(json.dumps(METRICS))
    assert main(["rounds", str(run), "--out", str(file)]) == 2
    assert "has no rounds.json" in capsys.readouterr().err
    assert main(["demo", str(run), str(run), "--out", str(file)]) == 2
    assert "both have seed 3; name one run of each seed" in capsys.readouterr().err
    assert file.read_bytes() == recorded
