"""Bootstrap intervals: known analytic cases, degenerate ones, seeds; and how figures with intervals are shown."""

import math
from collections import Counter

import pytest

from evaluation.statistics import Counts, Figures, f1, intervals, ratio, total
from rlaif.report.figures import format_figure, format_interval, format_with_interval


def share(totals: Counts) -> Figures:
    return {"share": ratio(totals["k"], totals["n"]), "n": totals["n"]}


def units(successes: int, count: int, size: int = 1) -> list[Counts]:
    """`count` units of `size` trials each, all successes in some of them, none in the others."""
    return [Counter(k=size * (index < successes), n=size) for index in range(count)]


def test_total_and_ratio() -> None:
    assert total([Counter(a=1, b=0), Counter(a=2)]) == Counter(a=3)
    assert (ratio(1, 4), ratio(0, 4), ratio(0, 0)) == (0.25, 0.0, None)
    assert f1(0.5, 1.0) == pytest.approx(2 / 3)
    assert (f1(None, None), f1(0.0, 0.0), f1(None, 0.0)) == (None, None, None)


def interval_of_share(given: list[Counts]) -> list[float]:
    interval = intervals(given, share, seed=0)["share"]
    assert interval is not None
    return interval


def test_a_proportion_has_the_interval_of_the_normal_approximation() -> None:
    """p +- 1.96 sqrt(p (1 - p) / n); the bootstrap's own noise and the steps of 1/400 are well within 0.01."""
    low, high = interval_of_share(units(120, 400))
    half = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert low == pytest.approx(0.3 - half, abs=0.01) and high == pytest.approx(0.3 + half, abs=0.01)


def test_trials_of_one_unit_are_drawn_together() -> None:
    """Ten equal trials per unit have the information of one: the interval is that of 40 units, not of 400 trials."""
    grouped = interval_of_share(units(12, 40, size=10))
    single = interval_of_share(units(120, 400))
    assert grouped == interval_of_share(units(12, 40))
    assert (grouped[1] - grouped[0]) == pytest.approx(math.sqrt(10) * (single[1] - single[0]), rel=0.15)


def test_counts_have_no_interval() -> None:
    assert set(intervals(units(1, 4), share, seed=0)) == {"share"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], None),
        (units(1, 1), None),  # one unit has no spread
        (units(0, 10), [0.0, 0.0]),
        (units(10, 10), [1.0, 1.0]),
        ([Counter(k=0, n=0)] * 5, None),  # the figure is None
    ],
)
def test_degenerate_cases(given: list[Counts], expected: list[float] | None) -> None:
    assert intervals(given, share, seed=0)["share"] == expected


def test_resamples_without_the_figure_are_skipped() -> None:
    given = [Counter(k=1, n=1)] + [Counter(k=0, n=0)] * 3  # drawn in 1 - (3/4)^4 = 68% of the resamples
    assert intervals(given, share, seed=0)["share"] == [1.0, 1.0]


def test_equal_seeds_give_equal_intervals() -> None:
    given = units(7, 30)
    assert intervals(given, share, seed=3) == intervals(given, share, seed=3)
    assert intervals(given, share, seed=3, resamples=50) != intervals(given, share, seed=4, resamples=50)


@pytest.mark.parametrize(
    ("name", "value", "interval", "text"),
    [
        ("recall", 0.257, [0.231, 0.284], "25.7% [23.1, 28.4]"),
        ("mean_words", 24.61, [23.0, 26.04], "24.6 [23.0, 26.0]"),
        ("score", 3.456, [3.1, 3.789], "3.46 [3.10, 3.79]"),
        ("people_kappa", 0.812, [-0.001, 0.9], "0.81 [0.00, 0.90]"),
        ("change", -0.5, [-0.61, -0.4], "-50.0% [-61.0, -40.0]"),
        ("responses", 1200, None, "1,200"),
        ("recall", None, None, "-"),
    ],
)
def test_shown(name: str, value: float | None, interval: list[float] | None, text: str) -> None:
    assert format_with_interval(name, value, interval) == text
    assert format_figure(name, value) == text.split()[0]
    assert format_interval(name, None) == ""
