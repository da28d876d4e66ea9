"""Both checks are measured on claims of which it is known whether a description makes them."""

import random
from collections import Counter

from bench.checks import cases_of, changed, row, says
from feedback.check.claim import Source
from scenes.language import ThingMention, find_mentions

TEXT = "A small red car at the top left. Two birds in the center. The car is behind the birds. A sign says STOP."


def test_each_claim_has_a_twin_that_the_description_does_not_make() -> None:
    cases = cases_of([TEXT], seed=0)
    assert [case[3] for case in cases] == [True, False] * 4
    assert cases[0][1:3] == ("There is a small red car at the top left.", "Is there a small red car at the top left?")
    made = find_mentions(TEXT)
    assert all((mention in made) is own for _, claim, _, own in cases for mention in find_mentions(claim))


def test_one_part_changes() -> None:
    """Each part of a thing, of a relation and of a sign at some time, and one at a time."""
    mentions = find_mentions(TEXT)
    parts: dict[str, Counter[str]] = {}
    for mention in mentions:
        for seed in range(50):
            other = changed(mention, mentions, random.Random(seed))
            (part,) = [name for name, value in vars(mention).items() if vars(other)[name] != value]
            parts.setdefault(mention.claim, Counter())[part] += 1
    assert [set(counts) for counts in parts.values()] == [
        {"name", "number", "color", "size", "place"},
        {"name", "number", "place"},
        {"name", "relation", "other"},
        {"text"},
    ]


def test_a_mention_says_what_leaves_something_out() -> None:
    """Of two red cars there also is a car, but of a car there are not two."""
    cars = ThingMention("car", 2, "red", None, "top")
    assert says(cars, cars) and says(cars, ThingMention("car")) and says(cars, ThingMention("car", 2, place="top"))
    assert not says(ThingMention("car"), cars) and not says(cars, ThingMention("car", 2, "blue"))


def test_a_row_counts_both_kinds() -> None:
    cases = [(Source("", ""), "", "", own) for own in (True, True, False, False)]
    assert row("words", cases, [True, False, False, True], 0.002) == "| words | 50.0% of 2 | 50.0% of 2 | 0.50 |"
