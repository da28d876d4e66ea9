"""Figures of hallucination and of the labeler against numbers worked out by hand."""

from collections import Counter

import pytest

from evaluation.hallucination import answer_counts, change, hallucination_figures
from evaluation.labeled_answers import labeled_counts, labeled_figures
from evaluation.labeler_quality import claim_counts, claim_figures, pair_counts, pair_figures, reorder_pairs
from evaluation.statistics import Counts, Figures, total
from tests.support.captions.scene_truth import TRUTH


def counts(words: int, mentions: int, false: int, found: int, objects: int) -> Counts:
    """What an answer with these counts adds to the sums."""
    return Counter(
        answers=1,
        words=words,
        mentions=mentions,
        false_mentions=false,
        answers_with_mentions=int(mentions > 0),
        answers_with_false_mentions=int(false > 0),
        objects_found=found,
        objects=objects,
    )


def test_every_mention_and_every_object_found_is_counted() -> None:
    text = (
        "There are two red apples on the left. "  # 8 words, true
        "I can see a green car on the right, "  # 9 words, false
        "and a green car on the right."  # 7 words, false again
    )
    assert answer_counts(text, TRUTH) == counts(words=24, mentions=3, false=2, found=1, objects=4)


def test_a_mention_of_a_sign_finds_it_and_one_of_a_relation_finds_nothing() -> None:
    """The objects are three things and a sign."""
    text = "The cat is on the couch. A sign says STOP."  # 10 words
    assert answer_counts(text, TRUTH) == counts(words=10, mentions=2, false=0, found=1, objects=4)
    assert answer_counts("The couch is on the cat.", TRUTH) == counts(words=6, mentions=1, false=1, found=0, objects=4)


@pytest.mark.parametrize("text", ["A blue couch at the top.", "A red couch.", "Three red apples.", "A sign says EXIT."])
def test_the_right_object_with_a_wrong_word_is_a_hallucination(text: str) -> None:
    assert answer_counts(text, TRUTH)["false_mentions"] == 1


def test_without_truth_only_words_are_counted() -> None:
    assert answer_counts("A red car.", None) == counts(words=3, mentions=0, false=0, found=0, objects=0)


def test_hallucination_at_both_levels() -> None:
    """Three of eight mentions are false. Two answers have a false one: of three that mention anything, of four in all.

    So response_rate is 2/3, where CHAIR_s would be 2/4.
    """
    answers = [
        counts(words=10, mentions=4, false=1, found=2, objects=3),
        counts(words=20, mentions=2, false=2, found=0, objects=1),
        counts(words=6, mentions=2, false=0, found=2, objects=2),
        counts(words=4, mentions=0, false=0, found=0, objects=2),  # mentions nothing: in recall, in no rate
    ]
    assert hallucination_figures(total(answers)) == {
        "mention_rate": 3 / 8,
        "response_rate": 2 / 3,
        "recall": 4 / 8,
        "mean_words": 10.0,
        "responses": 4,
    }


def test_silence_has_no_rate() -> None:
    figures = hallucination_figures(counts(words=2, mentions=0, false=0, found=0, objects=3))
    assert figures == {"mention_rate": None, "response_rate": None, "recall": 0.0, "mean_words": 2.0, "responses": 1}
    assert hallucination_figures(total([]))["mean_words"] is None


def test_change_is_relative_but_for_recall() -> None:
    before: Figures = {"mention_rate": 0.4, "response_rate": 0.0, "recall": 0.75, "mean_words": 20.0}
    after: Figures = {"mention_rate": 0.1, "response_rate": 0.1, "recall": 0.5, "mean_words": 25.0}
    assert change(before, after) == {
        "mention_rate": pytest.approx(-0.75),
        "response_rate": None,  # nothing is relative to 0
        "recall": -0.25,
        "mean_words": 0.25,
    }
    assert change({**before, "recall": None}, after)["recall"] is None


def test_unreadable_claims_count_as_wrong() -> None:
    verdicts = [
        (True, True),
        (True, True),
        (False, True),
        (False, False),
        (True, False),
        (True, None),
        (False, None),
        (False, False),
    ]
    assert claim_figures(total(claim_counts(*pair) for pair in verdicts)) == {
        "claim_accuracy": 4 / 8,
        "false_claims_accepted": 1 / 3,
        "true_claims_rejected": 1 / 3,
        "claims": 8,
        "claims_unreadable": 2,
    }
    assert claim_figures(total([]))["claim_accuracy"] is None


def test_ties_count_against_pair_agreement() -> None:
    false_mentions = {"a": 0, "b": 1, "c": 1, "d": 3}
    pairs = [("a", "b"), ("b", "d"), ("b", "c"), ("d", "a")]
    counts = [pair_counts(pair, false_mentions, "run") for pair in pairs]
    counts.append(pair_counts(("d", "a"), false_mentions, "other"))
    assert pair_figures(total(counts), "run") == {"agreement": 2 / 4, "ties": 1 / 4, "pairs": 4}
    assert pair_figures(total(counts), "other") == {"agreement": 0.0, "ties": 0.0, "pairs": 1}
    assert pair_figures(total([]), "run")["agreement"] is None


def test_reordering_turns_pairs_and_skips_equal_scores() -> None:
    pairs = [("a", "b"), ("b", "c"), ("c", "d")]
    assert reorder_pairs(pairs, {"a": 0.1, "b": 0.5, "c": 0.2, "d": 0.2}) == [("b", "a"), ("b", "c")]


def test_unknown_claims_of_answers_are_neither_accepted_nor_rejected() -> None:
    """Of four answers one has a rejected claim beside an unknown one, one only an unknown one: between 1/4 and 2/4."""
    answers = [labeled_counts(3, 1, 1), labeled_counts(2, 0, 1), labeled_counts(1, 0, 0), labeled_counts(2, 0, 0)]
    assert labeled_figures(total(answers)) == {
        "rejected_share": 1 / 6,
        "rejected_response_share": 1 / 4,
        "undecided_response_share": 1 / 4,
        "mean_claims": 6 / 4,
        "unknown_share": 2 / 8,
        "labeled_answers": 4,
    }
