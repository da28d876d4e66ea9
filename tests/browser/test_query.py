"""The filter language: what it parses to, what it refuses, and that nothing of it becomes SQL."""

import pytest

from browser.columns import COMPARED, DROPPED, PAIRS, PROMPTS
from browser.query import View, order, parse, quote, where
from rlaif.errors import InputError

VIEWS = (PAIRS, PROMPTS, DROPPED, COMPARED)


def terms(text: str, view: View = PAIRS) -> list[tuple[str, str, str]]:
    return [(term.column.name, term.operator, term.value) for term in parse(text, view)]


def test_terms() -> None:
    assert terms('margin>=2  split = train claim~"red \\"car\\"" "street" !~x') == [
        ("margin", ">=", "2"),
        ("split", "=", "train"),
        ("claim", "~", 'red "car"'),
        ("text", "~", "street"),
        ("text", "~", "!~x"),
    ]
    assert terms("") == terms("   ") == []
    assert terms("\u732b claim!~\u72d7") == [("text", "~", "\u732b"), ("claim", "!~", "\u72d7")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour=red", "pairs have no column 'colour'; expected one of: margin, weakest,"),
        ("margin=", "margin= has no value; write one behind it"),
        ("margin=many", "margin is a number, got 'many'; write one such as margin=2"),
        ("margin>=nan", "margin is a number, got 'nan'"),
        ("margin>none", "margin is a number, got 'none'"),
        ("margin~2", "margin is a number, and ~ looks into texts; use ="),
        ("split>train", "split is a text, and > compares numbers; use ="),
        ('claim~"red', '"red has no closing quotation mark'),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse(text, PAIRS)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_values_are_parameters() -> None:
    hostile = "'); DROP TABLE pairs; --"
    condition, parameters = where(parse(f"split={quote(hostile)} margin!=none margin>1 {quote(hostile)}", PAIRS), PAIRS)
    assert hostile not in condition and "DROP" not in condition
    assert parameters == [hostile, 1.0] + [hostile] * 5  # the word alone: instruction, both answers, claims of both
    assert condition.startswith('("split" = ?) AND NOT coalesce("margin" IS NULL, false) AND ("margin" > ?) AND (')


@pytest.mark.parametrize("sort", ["margin; DROP TABLE pairs", "--margin", "position", '"margin"', "margin desc", "1"])
def test_an_order_is_a_column(sort: str) -> None:
    with pytest.raises(InputError, match="have no column"):
        order(sort, PAIRS)


def test_orders() -> None:
    assert order("", PAIRS) == "position"
    assert order("margin", PAIRS) == '"margin" ASC NULLS LAST, position'
    assert order("-margin", PAIRS) == '"margin" DESC NULLS LAST, position'
    with pytest.raises(InputError, match="claim has several values a row and gives no order; use one of: margin"):
        order("claim", PAIRS)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_presets_and_examples_are_filters(view: View) -> None:
    for _, filters, sort in view.presets:
        parse(filters, view)
        order(sort, view)
    assert parse(view.example, view)


@pytest.mark.parametrize("value", ["plain", "two words", 'with "quotes"', "back\\slash", "", " ", "a=b"])
def test_quoted_values_are_read_back(value: str) -> None:
    assert terms(f"split={quote(value)}") == [("split", "=", value)]
