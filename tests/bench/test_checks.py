"""Both checks are measured on claims of which it is known whether a description makes them."""

import random

from bench.checks import cases_of, changed, row
from feedback.check.claim import Source
from scenes.language import find_mentions

TEXT = "A small red circle at the top left. A blue square in the center."


def test_each_claim_has_a_twin_that_the_description_does_not_make() -> None:
    cases = cases_of([TEXT], seed=0)
    assert [case[3] for case in cases] == [True, False, True, False]
    assert cases[0][1:3] == (
        "There is a small red circle at the top left.",
        "Is there a small red circle at the top left?",
    )
    made = find_mentions(TEXT)
    assert all((mention in made) is own for _, claim, _, own in cases for mention in find_mentions(claim))


def test_one_property_changes() -> None:
    mentions = find_mentions(TEXT)
    for seed in range(20):
        other = changed(mentions[0], mentions, random.Random(seed))
        properties = [
            (other.color, mentions[0].color),
            (other.shape, mentions[0].shape),
            (other.place, mentions[0].place),
        ]
        assert sum(a != b for a, b in [*properties, (other.size, mentions[0].size)]) == 1


def test_a_row_counts_both_kinds() -> None:
    cases = [(Source("", ""), "", "", own) for own in (True, True, False, False)]
    assert row("words", cases, [True, False, False, True], 0.002) == "| words | 50.0% of 2 | 50.0% of 2 | 0.50 |"
