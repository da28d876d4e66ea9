"""Hallucination metrics against numbers worked out by hand."""

import pytest

from evaluation.hallucination import (
    Judged,
    change,
    claim_counts,
    claim_quality,
    claim_truth,
    hallucination,
    judge,
    pair_agreement,
    pair_counts,
    reordered,
    split_is_right,
)
from evaluation.statistics import total

OBJECTS = [
    {"shape": "circle", "color": "red", "size": "small", "place": "top left"},
    {"shape": "circle", "color": "red", "size": "large", "place": "center"},
    {"shape": "star", "color": "blue", "size": "small", "place": "bottom"},
]


def test_judge_counts_every_mention_and_every_object_found() -> None:
    text = (
        "There is a small red circle at the top left. "  # 10 words, true of the first object only
        "I can see a green square on the left, "  # 9 words, false
        "and a green square on the left."  # 7 words, false again
    )
    assert judge(text, OBJECTS) == Judged(words=26, mentions=3, hallucinated=2, found=1, objects=3)


def test_a_mention_that_fits_two_objects_finds_both() -> None:
    assert judge("A red circle.", OBJECTS) == Judged(words=3, mentions=1, hallucinated=0, found=2, objects=3)


def test_the_right_shape_in_the_wrong_place_is_a_hallucination() -> None:
    assert judge("A blue star at the top.", OBJECTS).hallucinated == 1


def test_without_truth_only_words_are_counted() -> None:
    assert judge("A red circle.", None) == Judged(words=3, mentions=0, hallucinated=0, found=0, objects=0)


def test_hallucination_at_both_levels() -> None:
    answers = [
        Judged(words=10, mentions=4, hallucinated=1, found=2, objects=3),
        Judged(words=20, mentions=2, hallucinated=2, found=0, objects=1),
        Judged(words=6, mentions=2, hallucinated=0, found=2, objects=2),
        Judged(words=4, mentions=0, hallucinated=0, found=0, objects=2),  # mentions nothing: in recall, in no rate
    ]
    assert hallucination(answers) == {
        "mention_rate": 3 / 8,
        "response_rate": 2 / 3,
        "recall": 4 / 8,
        "mean_words": 10.0,
        "responses": 4,
    }


def test_silence_has_no_rate() -> None:
    figures = hallucination([Judged(words=2, mentions=0, hallucinated=0, found=0, objects=3)])
    assert figures == {"mention_rate": None, "response_rate": None, "recall": 0.0, "mean_words": 2.0, "responses": 1}
    assert hallucination([])["mean_words"] is None


def test_change_is_relative_but_for_recall() -> None:
    before = {"mention_rate": 0.4, "response_rate": 0.0, "recall": 0.75, "mean_words": 20.0}
    after = {"mention_rate": 0.1, "response_rate": 0.1, "recall": 0.5, "mean_words": 25.0}
    assert change(before, after) == {
        "mention_rate": pytest.approx(-0.75),
        "response_rate": None,  # nothing is relative to 0
        "recall": -0.25,
        "mean_words": 0.25,
    }
    assert change({**before, "recall": None}, after)["recall"] is None


@pytest.mark.parametrize(
    ("claim", "truth"),
    [
        ("There is a blue star at the bottom.", True),
        ("There is a blue star at the top.", False),
        ("It is a nice picture.", None),
        ("There is a blue star and a red circle.", None),
    ],
)
def test_claim_truth(claim: str, truth: bool | None) -> None:
    assert claim_truth(claim, OBJECTS) is truth


def test_claim_quality_counts_unreadable_claims_as_wrong() -> None:
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
    assert claim_quality(total(claim_counts(*pair) for pair in verdicts)) == {
        "claim_accuracy": 4 / 8,
        "false_claims_accepted": 1 / 3,
        "true_claims_rejected": 1 / 3,
        "claims": 8,
        "claims_unreadable": 2,
    }
    assert claim_quality(total([]))["claim_accuracy"] is None


@pytest.mark.parametrize(
    ("claims", "right"),
    [
        (["There is a red circle.", "There is a blue star."], True),
        (["There is a blue star.", "There is a red circle."], True),
        (["There is a red circle."], False),  # one lost
        (["There is a red circle.", "There is a blue star.", "There is a green star."], False),  # one invented
        (["There is a red circle.", "There is a red circle.", "There is a blue star."], False),  # one twice
        (["There is a red circle and a blue star."], False),  # not divided
        (["There is a red circle.", "There is a blue star.", "It is nice."], False),  # no mention
    ],
)
def test_split_is_right(claims: list[str], right: bool) -> None:
    assert split_is_right("I can see a red circle and a blue star. A red circle. It is nice.", claims) is right


def test_pair_agreement_counts_ties_against() -> None:
    false_mentions = {"a": 0, "b": 1, "c": 1, "d": 3}
    pairs = [("a", "b"), ("b", "d"), ("b", "c"), ("d", "a")]
    counts = [pair_counts(pair, false_mentions, "own") for pair in pairs]
    counts.append(pair_counts(("d", "a"), false_mentions, "other"))
    assert pair_agreement(total(counts), "own") == {"agreement": 2 / 4, "ties": 1 / 4, "pairs": 4}
    assert pair_agreement(total(counts), "other") == {"agreement": 0.0, "ties": 0.0, "pairs": 1}
    assert pair_agreement(total([]), "own")["agreement"] is None


def test_reordered_turns_pairs_and_leaves_out_equal_scores() -> None:
    pairs = [("a", "b"), ("b", "c"), ("c", "d")]
    assert reordered(pairs, {"a": 0.1, "b": 0.5, "c": 0.2, "d": 0.2}) == [("b", "a"), ("b", "c")]
