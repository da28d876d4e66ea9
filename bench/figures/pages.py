"""Figures in Markdown pages: the text between two markers is replaced by figures from the result files.

<!-- results: demo -->            a table: a name of TABLES, a file of printed tables, `bench` or `sources`
<!-- /results -->

<!-- figure: demo 0 after mention_rate -->7.8%<!-- /figure -->            a figure: a result file, then keys
"""

import re
from pathlib import Path
from typing import Any

from bench.figures.results import RESULTS, ROOT, read_result, result_names
from bench.figures.tables import TABLES, printed_tables, readme_table, sources_table
from bench.result import read, table
from rlaif.errors import InputError
from rlaif.report.figures import format_figure

_TABLE = re.compile(r"(?P<start><!-- results: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- /results -->)", re.DOTALL)
_FIGURE = re.compile(r"(?P<start><!-- figure: (?P<keys>[^>]+?) -->)[^\n]*?(?P<end><!-- /figure -->)")


def pages(root: Path = ROOT) -> list[Path]:
    """The README files and the pages of docs/."""
    return sorted([*root.glob("README*.md"), *root.glob("docs/**/*.md")])


def fill(text: str, folder: Path = RESULTS) -> str:
    """A page with the tables and figures of the result files in `folder`. Errors: InputError: unknown name or key."""
    text = _TABLE.sub(lambda match: f"{match['start']}{table_of(match['name'], folder)}\n{match['end']}", text)
    return _FIGURE.sub(lambda match: f"{match['start']}{figure_of(match['keys'], folder)}{match['end']}", text)


def table_of(name: str, folder: Path = RESULTS) -> str:
    """The Markdown of the table that pages call `name`. Errors: InputError."""
    if name == "readme-demo":
        return readme_table(read_result("demo", folder).figures, read_result("rounds", folder).figures)
    if name == "bench":
        return table(read())
    if name == "sources":
        return sources_table({file: read_result(file, folder) for file in result_names(folder)})
    file, render = TABLES.get(name, (name, printed_tables))
    figures = read_result(file, folder).figures
    if render is printed_tables and "tables" not in figures:
        raise InputError(f"unknown table {name!r}; allowed: {', '.join(table_names(folder))}")
    return render(figures)


def table_names(folder: Path = RESULTS) -> list[str]:
    """The names that pages may use."""
    printed = [name for name in result_names(folder) if "tables" in read_result(name, folder).figures]
    return sorted([*TABLES, *printed, "bench", "readme-demo", "sources"])


def figure_of(keys: str, folder: Path = RESULTS) -> str:
    """One figure, formatted by the name of its last key. Errors: InputError."""
    file, *path = keys.split()
    value: Any = read_result(file, folder).figures
    for key in path:
        if not isinstance(value, dict) or key not in value:
            known = ", ".join(value) if isinstance(value, dict) else "none, it is a value"
            raise InputError(f"figure {keys!r}: no key {key!r} in docs/results/{file}.json; keys there: {known}")
        value = value[key]
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float):
        raise InputError(f"figure {keys!r} is not a single value; name one of its keys too: {', '.join(value)}")
    return format_figure(path[-1], value)
