"""Formats figures, the same in the terminal, the report and the documentation.

A share is shown in percent, a count as it is, and a name that starts with `mean` or `score`, or ends with `kappa`, as a
number. An interval follows its figure in brackets, in the same unit.
"""

from collections.abc import Mapping, Sequence


def format_figure(name: str, value: float | int | None) -> str:
    """25.7%, 24.6, 1,200; "-" for a figure that is not known."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return _number(name, value) + ("" if name.startswith("mean") or _has_two_digits(name) else "%")


def format_interval(name: str, interval: Sequence[float] | None) -> str:
    """[23.1, 28.4]; empty without an interval."""
    if interval is None:
        return ""
    low, high = (_number(name, bound) for bound in interval)
    return f"[{low}, {high}]"


def format_with_interval(name: str, value: float | int | None, interval: Sequence[float] | None) -> str:
    """25.7% [23.1, 28.4]."""
    return f"{format_figure(name, value)} {format_interval(name, interval)}".rstrip()


def figures_list(
    title: str, figures: Mapping[str, float | int | None], intervals: Mapping[str, Sequence[float] | None]
) -> str:
    """The title, and a line for each figure with its interval, for the terminal."""
    lines = [f"  {name:40}{format_with_interval(name, figures[name], intervals.get(name)):>22}" for name in figures]
    return "\n".join([title, *lines])


def _has_two_digits(name: str) -> bool:
    return name.startswith("score") or name.endswith("kappa")


def _number(name: str, value: float) -> str:
    digits = 2 if _has_two_digits(name) else 1
    shown = value if digits == 2 or name.startswith("mean") else 100 * value
    return f"{round(shown, digits) + 0.0:.{digits}f}"  # 0.0, never -0.0
