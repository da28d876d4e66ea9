"""Confidence intervals of figures by the bootstrap: how far a figure moves when other images are drawn. Pure.

Notable choices:
- what is drawn, with replacement, is a unit: a prompt or an image with all that was counted about it. Mentions and
  questions of one image go together, and drawing them singly would give intervals that are too narrow;
- a figure is a function of summed counts, so a resample is a sum with weights, and its figures are computed by the same
  function as the figures themselves;
- the interval is that of the percentiles (Efron 1979, "Bootstrap methods: another look at the jackknife");
- a rate of 0 or 1 gets an interval of no width: no resample can show what no unit has. Of 300 units without a case, at
  most 1% is what can be said of the rate (3 / 300, at 95%).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

Counts = Counter[str]  # what one answer, one claim or one image adds to the sums that figures are made of


Figures = dict[str, float | int | None]  # an int counts something; None: there is nothing to take a ratio of


def total(parts: Iterable[Counts]) -> Counts:
    """The sums of all parts."""
    sums: Counts = Counter()
    for part in parts:
        sums.update(part)
    return sums


def ratio(part: float, whole: float) -> float | None:
    """part / whole; None where there is no whole, never 0: a policy that says nothing has no hallucination rate."""
    return part / whole if whole else None


def f1(precision: float | None, recall: float | None) -> float | None:
    """Their harmonic mean; None where one of them is, or both are 0."""
    return ratio(2 * (precision or 0.0) * (recall or 0.0), (precision or 0.0) + (recall or 0.0))


Intervals = dict[str, list[float] | None]  # figure -> [low, high]; None where it cannot be had


LEVEL = 0.95


RESAMPLES = 2000


def intervals(
    units: Sequence[Counts], figures: Callable[[Counts], Figures], seed: int, resamples: int = RESAMPLES
) -> Intervals:
    """The interval of each figure that `figures` makes of the sums: the same for the same units in order, and seed.

    Figures that count (integers) have none. None: the figure is None, or there is no second unit to tell a spread from.
    Resamples in which a figure is None are left out of its percentiles.
    """
    estimates = {name: value for name, value in figures(total(units)).items() if not isinstance(value, int)}
    if len(units) < 2:
        return dict.fromkeys(estimates)
    keys = sorted({key for unit in units for key in unit})
    counts = np.array([[unit[key] for key in keys] for unit in units], dtype=np.int64)  # units x keys
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(resamples):
        weights = np.bincount(rng.integers(len(units), size=len(units)), minlength=len(units))
        resample = figures(Counter(dict(zip(keys, (weights @ counts).tolist(), strict=True))))
        for name in estimates:
            if (value := resample[name]) is not None:
                found[name].append(value)
    tail = (1 - LEVEL) / 2
    return {
        name: None if value is None or not found[name] else np.quantile(found[name], [tail, 1 - tail]).tolist()
        for name, value in estimates.items()
    }
