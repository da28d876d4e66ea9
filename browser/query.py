"""The filter language of the address: `margin>=2 split=train claim~"red car" street` -> SQL and its parameters.

A term is a column, an operator and a value; a word alone is looked for in all texts of a row. All terms must hold.
Names of columns and operators come from a list, and values are bound as parameters: no part of a filter becomes SQL.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlaif.errors import InputError

TEXT = "text"  # the column in which a word alone is looked for
NONE = "none"  # the value that stands for "unknown"
OPERATORS = (">=", "<=", "!=", "!~", ">", "<", "=", "~")  # the longer ones first
_OPERATOR = "|".join(OPERATORS)
_TERM = re.compile(
    rf"""\s*(?:(?P<column>\w+)\s*(?P<operator>{_OPERATOR})\s*)?(?P<value>"(?:[^"\\]|\\.)*"|[^\s"]\S*|"\S*)"""
)
_UNFINISHED = re.compile(rf"\w+(?:{_OPERATOR})")


@dataclass(frozen=True)
class Place:
    """Where the values of a column stand outside the index.

    table, key: what is read, and its column of the view's ids. tests: pairs of a condition with `{test}` in it, and the
    value that is tested there: one of a row, or each of a list.
    """

    table: str
    key: str
    tests: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Column:
    """A column of a view, of its index unless it has places.

    A column with places has any number of values a row: a term holds if it holds for one of them, and one with `!` if
    it holds for none.
    """

    name: str
    kind: Literal["number", "text"]
    note: str
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class View:
    """A list of rows that can be filtered and sorted.

    index: the table of its columns; key: the column of its ids; example: a filter.
    """

    name: str
    index: str
    key: str
    example: str
    columns: tuple[Column, ...]
    presets: tuple[tuple[str, str, str], ...] = ()  # title, filter, sort

    def column(self, name: str) -> Column:
        """Errors: InputError: there is no such column."""
        for column in self.columns:
            if column.name == name:
                return column
        raise InputError(f"{self.name} have no column {name!r}; expected one of: {', '.join(self.names())}")

    def names(self) -> list[str]:
        return [column.name for column in self.columns]


@dataclass(frozen=True)
class Term:
    column: Column
    operator: str
    value: str


def parse(text: str, view: View) -> list[Term]:
    """The terms of a filter. Errors: InputError: an unknown column, or an operator or value that does not fit it."""
    terms, start = [], 0
    text = text.strip()
    while start < len(text):
        match = _TERM.match(text, start)
        assert match is not None
        start, value = match.end(), match["value"]
        if match["column"] is None and _UNFINISHED.fullmatch(value):
            raise InputError(f"{value} has no value; write one behind it, such as {value}2, or take it away")
        if value.startswith('"'):
            if len(value) < 2 or not value.endswith('"'):
                raise InputError(f'{value} has no closing quotation mark; write it as "..."')
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        terms.append(_term(view.column(match["column"] or TEXT), match["operator"] or "~", value))
    return terms


def _term(column: Column, operator: str, value: str) -> Term:
    if column.kind == "text" and operator in (">", "<", ">=", "<="):
        raise InputError(f"{column.name} is a text, and {operator} compares numbers; use =, !=, ~ or !~")
    if column.kind == "number":
        if operator in ("~", "!~"):
            raise InputError(f"{column.name} is a number, and {operator} looks into texts; use =, !=, >, <, >= or <=")
        if not (value == NONE and operator in ("=", "!=")) and _number(value) is None:
            raise InputError(f"{column.name} is a number, got {value!r}; write one such as {column.name}{operator}2")
    return Term(column, operator, value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def where(terms: Sequence[Term], view: View) -> tuple[str, list[Any]]:
    """The condition of a WHERE clause, and its parameters."""
    conditions: list[str] = []
    parameters: list[Any] = []
    for term in terms:
        negated = term.operator.startswith("!")
        positive = "=" if term.operator == "!=" else term.operator.lstrip("!")
        condition, values = _holds(term.column, positive, term.value, view.key)
        conditions.append(f"NOT coalesce({condition}, false)" if negated else f"({condition})")
        parameters += values
    return " AND ".join(conditions) or "true", parameters


def _holds(column: Column, operator: str, value: str, key: str) -> tuple[str, list[Any]]:
    if not column.places:
        return _test(f'"{column.name}"', column.kind, operator, value)
    alternatives: list[str] = []
    parameters: list[Any] = []
    for place in column.places:
        tests = []
        for condition, tested in place.tests:
            test, values = _test(tested, column.kind, operator, value)
            tests.append(condition.format(test=test))
            parameters += values
        alternatives.append(f"{key} IN (SELECT {place.key} FROM {place.table} WHERE {' OR '.join(tests)})")
    return f"({' OR '.join(alternatives)})", parameters


def _test(name: str, kind: str, operator: str, value: str) -> tuple[str, list[Any]]:
    if operator == "~":
        return f"contains(lower({name}), lower(?))", [value]
    if operator == "=" and value == NONE:
        return f"{name} IS NULL", []
    return f"{name} {operator} ?", [_number(value) if kind == "number" else value]


def order(sort: str, view: View) -> str:
    """The ORDER BY clause of a column name, with `-` before it for the largest first; empty: the order of the table.

    Errors: InputError: it is not a column that can be sorted by.
    """
    name = sort.removeprefix("-")
    if not name:
        return "position"
    if view.column(name).places:
        allowed = [column.name for column in view.columns if not column.places]
        raise InputError(f"{name} has several values a row and gives no order; use one of: {', '.join(allowed)}")
    return f'"{name}" {"DESC" if sort.startswith("-") else "ASC"} NULLS LAST, position'


def quote(value: str) -> str:
    """A value as a filter has it, in quotation marks where it needs them."""
    if value and not re.search(r'[\s"\\]', value):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
