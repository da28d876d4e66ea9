"""Figures in pages: what result files say is what pages show, and what no file says is an error."""

import json
from pathlib import Path

import pytest

from bench.figures.__main__ import main, outdated
from bench.figures.chart import rounds_chart, seed_lines
from bench.figures.pages import fill, table_names, table_of
from bench.figures.results import RESULTS, ResultFile, read_result, result_names, write_result
from bench.figures.tables import (
    BENCHMARK_FIGURES,
    SELECTORS,
    benchmarks_table,
    best_of_n_table,
    demo_table,
    markdown_table,
    readme_table,
)
from rlaif.errors import InputError

RUN = {
    "before": {"mention_rate": 0.25, "response_rate": 0.5, "recall": 0.78, "mean_words": 24.72},
    "after": {"mention_rate": 0.1, "response_rate": 0.2, "recall": 0.9, "mean_words": 24.6},
    "change": {"mention_rate": -0.6, "mean_words": -0.0049},
}


def result(**figures: object) -> ResultFile:
    return ResultFile("A demo", "make demo", "2026-01-31", "abc1234", "1 core", "", figures)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_result(result(**{"0": RUN}), tmp_path / "demo.json")
    table = {"columns": ["images", "seconds"], "rows": [["100", "20.2 s"]]}
    write_result(result(tables=[table, table]), tmp_path / "growth.json")
    return tmp_path


def test_pages_and_chart_are_up_to_date() -> None:
    assert sorted(outdated()) == [], "run `make figures`"


def test_every_table_of_the_project_can_be_rendered() -> None:
    for name in table_names():
        lines = table_of(name).split("\n\n")[0].splitlines()
        assert len(lines) > 2 and {line.count("|") for line in lines} == {lines[0].count("|")}, name


def test_every_result_says_how_it_was_measured() -> None:
    for name in result_names():
        result = read_result(name)
        assert result.title and result.date and result.commit and "Python" in result.machine
        assert result.command.startswith("make ")


def test_a_table_replaces_what_stands_between_its_markers(folder: Path) -> None:
    page = "Before.\n\n<!-- results: growth -->\nold\n\nolder\n<!-- /results -->\n\nAfter.\n"
    table = "| images | seconds |\n|---|---|\n| 100 | 20.2 s |"
    filled = f"Before.\n\n<!-- results: growth -->\n{table}\n\n{table}\n<!-- /results -->\n\nAfter.\n"
    assert fill(page, folder) == filled
    assert fill(filled, folder) == filled


def test_a_figure_inside_a_sentence(folder: Path) -> None:
    before, after = "<!-- figure: demo 0 before mention_rate -->", "<!-- figure: demo 0 after mean_words -->"
    page = f"From {before}?<!-- /figure --> to {after}<!-- /figure -->."
    assert fill(page, folder) == f"From {before}25.0%<!-- /figure --> to {after}24.6<!-- /figure -->."


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("results: speed -->\n", r"speed\.json does not exist; result files there: demo, growth"),
        ("figure: demo 0 after precision -->", r"no key 'precision' in docs/results/demo\.json; keys there: mention_"),
        ("figure: demo 0 after -->", r"'demo 0 after' is not a single value; name one of its keys too: mention_rate"),
        ("figure: demo 0 after recall x -->", r"no key 'x' .* keys there: none, it is a value"),
    ],
)
def test_a_marker_that_no_result_file_answers(folder: Path, marker: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fill(f"<!-- {marker}<!-- /{marker.split(':')[0]} -->", folder)


def test_a_file_that_is_not_a_result(folder: Path) -> None:
    (folder / "demo.json").write_text('{"figures": {}}')
    with pytest.raises(InputError, match=r"demo\.json is not a result file"):
        read_result("demo", folder)


def test_the_few_figures_of_the_readme() -> None:
    assert readme_table({"0": RUN, "1": RUN}, {"0": RUN}).splitlines() == [
        "| 2 seeds | hallucinated mentions | recall | words |",
        "|---|---|---|---|",
        "| one round (`make demo`) | 25.0% → 10.0% · 25.0% → 10.0% | 78.0% → 90.0% · 78.0% → 90.0% | -0.5% · -0.5% |",
        "| four rounds (`make rounds`) | 25.0% → 10.0% | 78.0% → 90.0% | -0.5% |",
    ]


def test_sources_list_every_result_file() -> None:
    assert table_of("sources").count("\n") == 1 + len(result_names())


def test_tables_by_hand() -> None:
    assert markdown_table(["", "b"], [["c", "d"]]) == "|  | b |\n|---|---|\n| c | d |"
    assert demo_table({"7": RUN}).splitlines()[2] == (
        "| 7 | 25.0% → 10.0% (-60%) | 50.0% → 20.0% | 78.0% → 90.0% | 24.7 → 24.6 (-0.5%) |"
    )
    asked = {
        **RUN,
        "short_answers": {"before": 0.9, "after": 0.91, "change": 0.01},
        "intervals": {"short_answers": {"change": [-0.002, 0.022]}},
    }
    table = demo_table({"7": asked}).splitlines()
    assert table[0].endswith(" mean words | short answers |")
    assert table[2].endswith(" | 90.0% → 91.0% (+1.0 points, [-0.2, 2.2]) |")
    assert "short answers" not in demo_table({"7": asked, "8": RUN})
    sizes = {"1": {"mention_rate": 0.13, "recall": 0.823}, "2": {"mention_rate": 0.08, "recall": 0.9}}
    by_selector = dict.fromkeys(SELECTORS, sizes)
    assert best_of_n_table({"1.0": by_selector, "0.5": by_selector}).splitlines()[9] == (
        "| 0.5 | by the labeler's score | 13.0% / 82.3% | 8.0% / 90.0% |"
    )
    side = {"figures": {"mention_rate": 0.19}, "intervals": {"mention_rate": [0.156, 0.225]}}
    assert benchmarks_table({"chair": {"before": side, "after": side}}).splitlines()[2:] == [
        "| CHAIR_i (mentions) | 19.0% [15.6, 22.5] | 19.0% [15.6, 22.5] |"
    ]


def test_names_of_benchmark_figures_are_those_of_the_benchmarks() -> None:
    """A renamed figure would vanish from the table without a word."""
    figures = read_result("benchmarks").figures
    for benchmark, names in BENCHMARK_FIGURES.items():
        assert set(figures[benchmark]["before"]["figures"]) >= set(names)


def candidate(name: str, number: int | None, rate: float) -> dict[str, object]:
    intervals = {"mention_rate": [rate - 0.02, rate + 0.02]}
    return {"name": name, "round": number, "figures": {"mention_rate": rate}, "intervals": intervals}


def test_the_chart_shows_rounds_their_intervals_and_the_average_beside_them() -> None:
    candidates = [candidate("start", 0, 0.25), candidate("round 1", 1, 0.1), candidate("average of 1 to 2", None, 0.08)]
    run = {**RUN, "candidates": candidates, "intervals": {"change": {"mention_rate": [-0.65, -0.55]}}}
    rounds, average = seed_lines("1", run, "chosen")
    assert rounds.points == [(0, 25.0), (1, 10.0)] and average.points == [(2, 8.0)]
    assert list(rounds.intervals[0]) == pytest.approx([0.0, 23.0, 27.0])
    svg = rounds_chart({"1": run})
    assert "average 1\N{EN DASH}2" in svg and svg.count('class="interval') == 3
    assert "seed 1, test scenes: 25.0 → 10.0, \N{MINUS SIGN}60.0% [\N{MINUS SIGN}65.0, \N{MINUS SIGN}55.0]" in svg
    assert "with 95% intervals" in svg


def test_check_fails_where_a_page_is_out_of_date(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = RESULTS.parent / "page.md"
    monkeypatch.setattr("bench.figures.__main__.outdated", lambda: {page: "new"})
    assert main(["--check"]) == 1
    said = capsys.readouterr()
    assert "out of date: docs/page.md" in said.out and "run `make figures`" in said.err
    assert not page.exists()


def test_result_files_are_readable_json() -> None:
    for file in RESULTS.glob("*.json"):
        assert json.loads(file.read_text(encoding="utf-8"))["figures"]
