"""Noise and intervals, against numbers derived by hand."""

from math import gamma, pi, sqrt

import pytest

from edge.tuning.statistics import T_975, Estimate, estimate, is_better, relative_noise, speedup

EIGHT = [1.0, 3.0] * 4  # mean 2, sum of squares 8, variance 8 / 7


def test_noise_is_relative() -> None:
    assert relative_noise([9, 11]) == pytest.approx(sqrt(2) / 10)
    assert relative_noise([2, 2, 2]) == 0


def test_an_estimate_has_students_interval() -> None:
    found = estimate(EIGHT)
    half = 2.365 * sqrt(8 / 7) / sqrt(8)
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half))
    with pytest.raises(AssertionError, match="8 measurements, not 3"):
        estimate([1, 2, 3])


def test_the_quantile_is_students() -> None:
    """The density with 7 degrees of freedom, integrated from -T_975 to T_975 by the midpoint rule."""
    scale = gamma(4) / (sqrt(7 * pi) * gamma(3.5))
    step = 2 * T_975 / 1000
    points = [-T_975 + (index + 0.5) * step for index in range(1000)]
    assert sum(scale * (1 + x * x / 7) ** -4 * step for x in points) == pytest.approx(0.95, abs=1e-4)


def test_a_speedup_is_a_geometric_mean_of_pairs() -> None:
    """Twice as fast in four pairs, eight times in the others: four times on average. A common disturbance cancels."""
    before, after = [4.0, 8.0] * 4, [2.0, 1.0] * 4
    assert speedup(before, after).mean == pytest.approx(4)
    disturbed = [index + 1.0 for index in range(8)]
    found = speedup([2 * one for one in disturbed], disturbed)
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2, 2))


def test_better_means_the_whole_interval() -> None:
    assert is_better(Estimate(1.1, 1.01, 1.2))
    assert not is_better(Estimate(1.1, 0.99, 1.2))


def test_an_estimate_is_shown_with_its_interval() -> None:
    assert str(Estimate(1.234, 1.1, 1.3)) == "1.23 (1.10-1.30)"
    assert str(Estimate(12.34, 11, 13)) == "12.3 (11.0-13.0)"
    assert str(Estimate(123.4, 110, 130)) == "123 (110-130)"
