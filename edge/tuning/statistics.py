"""Noise of a measurement, means and ratios with intervals by Student's t (Student 1908). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import fmean, stdev

from edge.tuning.halving import Outcome

REPEATS = 8  # processes of each of the two settings that are compared
T_975 = 2.365  # the 97.5% quantile of Student's t for REPEATS - 1 = 7 degrees of freedom


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        digits = 2 if abs(self.mean) < 10 else 1 if abs(self.mean) < 100 else 0
        return f"{self.mean:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


@dataclass(frozen=True)
class Comparison:
    """The winner and the default in turns: outcomes by process, and how many times as fast the winner is."""

    default: list[Outcome]
    winner: list[Outcome]
    ratio: Estimate


def relative_noise(seconds: Sequence[float]) -> float:
    """Standard deviation of runs with equal settings, relative to their mean."""
    return stdev(seconds) / fmean(seconds)


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of REPEATS measurements."""
    assert len(values) == REPEATS, f"T_975 is that of {REPEATS} measurements, not {len(values)}"
    mean, half = fmean(values), T_975 * stdev(values) / sqrt(REPEATS)
    return Estimate(mean, mean - half, mean + half)


def speedup(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """How many times as fast: the geometric mean of before / after over pairs that were measured in turns."""
    ratios = estimate([log(one / other) for one, other in zip(before, after, strict=True)])
    return Estimate(exp(ratios.mean), exp(ratios.low), exp(ratios.high))


def is_better(ratio: Estimate) -> bool:
    """Whether the whole interval is above 1: otherwise the settings are no better than the default."""
    return ratio.low > 1
