"""Formats figures, the same in the terminal, the report and the documentation.

A share is shown in percent, a count as it is, and a name that starts with `mean` or `score` as a number. An interval
follows its figure in brackets, in the same unit.
"""

from collections.abc import Sequence

NOT_SHARES = ("mean", "score")


def format_figure(name: str, value: float | int | None) -> str:
    """25.7%, 24.6, 1,200; "-" for a figure that is not known."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return _number(name, value) + ("" if name.startswith(NOT_SHARES) else "%")


def format_interval(name: str, interval: Sequence[float] | None) -> str:
    """[23.1, 28.4]; empty without an interval."""
    if interval is None:
        return ""
    low, high = (_number(name, bound) for bound in interval)
    return f"[{low}, {high}]"


def format_with_interval(name: str, value: float | int | None, interval: Sequence[float] | None) -> str:
    """25.7% [23.1, 28.4]."""
    return f"{format_figure(name, value)} {format_interval(name, interval)}".rstrip()


def _number(name: str, value: float) -> str:
    return f"{value:.2f}" if name.startswith("score") else f"{value if name.startswith('mean') else 100 * value:.1f}"
