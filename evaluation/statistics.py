"""Figures as functions of summed counts, and their confidence intervals by the bootstrap. Pure.

Notable choices:
- the unit of resampling is a prompt or an image with everything that was counted for it. Mentions and questions of
  one image are not independent: resampling them one by one would give intervals that are too narrow;
- a figure is a function of summed counts, so a resample is a weighted sum, and the same function computes its figures;
- intervals are percentile intervals (Efron 1979, "Bootstrap methods: another look at the jackknife");
- a rate of 0 or 1 gets an interval of zero width, because no resample contains what no unit has. If none of 300 units
  has an event, the rate is at most 1% with 95% confidence (rule of three: 3 / 300).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

Counts = Counter[str]  # what one answer, claim or image adds to the sums that figures are computed from
Figures = dict[str, float | int | None]  # an int is a count; None is a ratio whose denominator is zero
Intervals = dict[str, list[float] | None]  # figure -> [low, high]; None where there is no interval

LEVEL = 0.95
RESAMPLES = 2000


def total(parts: Iterable[Counts]) -> Counts:
    """The sums of all parts."""
    sums: Counts = Counter()
    for part in parts:
        sums.update(part)
    return sums


def ratio(part: float, whole: float) -> float | None:
    """part / whole; None, never 0, if whole is 0: a policy that says nothing has no hallucination rate."""
    return part / whole if whole else None


def f1(precision: float | None, recall: float | None) -> float | None:
    """The harmonic mean; None if one of them is None or both are 0."""
    return ratio(2 * (precision or 0.0) * (recall or 0.0), (precision or 0.0) + (recall or 0.0))


def intervals(
    units: Sequence[Counts], figures: Callable[[Counts], Figures], seed: int, resamples: int = RESAMPLES
) -> Intervals:
    """The interval of each figure, deterministic for a seed and units in the same order.

    Counts (integers) have no interval. None: the figure is None, or there are fewer than two units.
    Resamples in which a figure is None are skipped in its percentiles.
    """
    import numpy as np  # deferred so that --help stays fast

    estimates = {name: value for name, value in figures(total(units)).items() if not isinstance(value, int)}
    if len(units) < 2:
        return dict.fromkeys(estimates)
    keys = sorted({key for unit in units for key in unit})
    counts = np.array([[unit[key] for key in keys] for unit in units], dtype=np.int64)  # units x keys
    rng = np.random.default_rng(seed)
    values: dict[str, list[float]] = defaultdict(list)
    for _ in range(resamples):
        weights = np.bincount(rng.integers(len(units), size=len(units)), minlength=len(units))
        resample = figures(Counter(dict(zip(keys, (weights @ counts).tolist(), strict=True))))
        for name in estimates:
            if (value := resample[name]) is not None:
                values[name].append(value)
    tail = (1 - LEVEL) / 2
    return {
        name: None if value is None or not values[name] else np.quantile(values[name], [tail, 1 - tail]).tolist()
        for name, value in estimates.items()
    }
