"""The rules by which a rewritten caption is kept, and how fluent it is."""

import pytest

from generation.quality import edit_distance, find_fault, invented_words, repetition, share_invented
from generation.rewrite import fluency
from rlaif.config import RewriteSection

RULES = RewriteSection()


def test_repetition_is_the_share_of_repeated_four_word_sequences() -> None:
    assert repetition("a b c") == 0.0
    assert repetition("a b c d a b c d") == pytest.approx(1 / 5)  # abcd bcda cdab dabc abcd
    assert repetition("A red circle at the top. A red circle at the top.") == pytest.approx(3 / 9)
    assert repetition("There is a red circle at the top. There is a blue star on the left.") == 0.0


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ("top", "tpo", 1),
        ("top", "top", 0),
        ("red", "rd", 1),
        ("star", "sqaur", 2),
        ("square", "sqare", 1),
        ("", "ab", 2),
    ],
)
def test_edit_distance(one: str, other: str, count: int) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == count


def test_invented_words_are_missing_from_the_raw_caption_in_any_spelling() -> None:
    raw = "teh gren sqaure, redcircle at tpo!! #art"
    assert invented_words("A green square and a red circle at the top.", raw, 0.34) == []
    assert invented_words("A green star and a blue circle.", raw, 0.34) == ["star", "blu"]
    assert share_invented("A green star and a blue circle.", raw, 0.34) == pytest.approx(2 / 4)
    assert share_invented("There it is.", raw, 0.34) == 0.0
    assert invented_words("The top and the bottom on the left, not right.", "top left", 0.34) == ["bottom", "right"]
    assert invented_words("A dog runs.", "dogs running", 0.34) == []
    assert invented_words("A green square.", raw, 0.0) == ["green", "squar"]


@pytest.mark.parametrize(
    ("raw", "caption", "reason"),
    [
        ("smal red circel", "A small red circle.", None),
        ("IMG_1.jpg", "", "no_description"),
        ("IMG_1.jpg", "...", "no_description"),
        ("red circle", "A circle", "too_short"),
        (f"red circle star {'word ' * 30}", "A red circle, a star", "too_short"),  # 5 words for 33
        ("red star", "A red star, red, red, red star", "too_long"),  # 7 words for 2
        (f"circle {'a star ' * 100}", "a star " * 101, "too_long"),
        ("a red circle at the top", "A red circle at the top. A red circle at the top.", "repetition"),
        ("a red circle at the top", "A red circle and a star at the top.", "invented"),
    ],
)
def test_each_rule_has_its_reason(raw: str, caption: str, reason: str | None) -> None:
    fault = find_fault(raw, caption, -0.5, RULES)
    assert (fault and fault.reason) == reason
    assert fault is None or fault.detail == raw or caption in fault.detail


def test_fluency_has_a_limit() -> None:
    assert find_fault("a red star", "A red star.", -1.0, RULES) is None
    fault = find_fault("a red star", "A red star.", -1.01, RULES)
    assert fault is not None and fault.reason == "not_fluent" and fault.detail == "-1.01: A red star."


def test_fluency_is_the_mean_over_the_tokens_of_the_caption() -> None:
    tokens = (('{"', -5), ("question", -5), ('":"What?","', -5), ("answer", -5), ('":"', -5), ("A", -1), (" star", -2))
    text = '{"question":"What?","answer":"A star."}'
    assert fluency(text, (*tokens, ('."}', -6), ("", -5))) == pytest.approx((-1 - 2 - 6) / 3)
    assert fluency(text, (*tokens, (".", -3), ('"}', -5), ("", -5))) == pytest.approx((-1 - 2 - 3) / 3)
    assert fluency('{"question":"What?","answer":""}', (*tokens[:5], ('"}', -5))) == 0.0
