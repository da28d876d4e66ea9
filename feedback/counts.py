"""Figures are ratios of counts: what everything that measures shares is counts that add up, and their ratios."""

from collections import Counter
from collections.abc import Iterable

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
