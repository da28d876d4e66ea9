"""The truth of a scene, and texts compared with it."""

import pytest

from evaluation.truth import Truth
from tests.support.captions.scene_truth import TRUTH


def test_mentions_are_checked_in_order() -> None:
    assert TRUTH.check_mentions("A red circle, a green star, and a blue star at the top.") == [True, False, False]
    assert TRUTH.check_mentions("It is nice.") == []


def test_objects_are_found_by_true_mentions() -> None:
    truth: Truth = TRUTH  # the protocol
    assert truth.num_objects == 3
    assert truth.count_objects_found("A red circle.") == 2  # it fits both
    assert truth.count_objects_found("A large red circle and a blue star.") == 2
    assert truth.count_objects_found("A large red circle at the top left.") == 0


@pytest.mark.parametrize(
    ("claim", "truth"),
    [
        ("There is a blue star at the bottom.", True),
        ("There is a blue star at the top.", False),
        ("It is a nice picture.", None),
        ("There is a blue star and a red circle.", None),
    ],
)
def test_claims(claim: str, truth: bool | None) -> None:
    assert TRUTH.claim_is_true(claim) is truth


@pytest.mark.parametrize(
    ("claims", "correct"),
    [
        (["There is a red circle.", "There is a blue star."], True),
        (["There is a blue star.", "There is a red circle."], True),
        (["There is a red circle."], False),  # one lost
        (["There is a red circle.", "There is a blue star.", "There is a green star."], False),  # one added
        (["There is a red circle.", "There is a red circle.", "There is a blue star."], False),  # one twice
        (["There is a red circle and a blue star."], False),  # not divided
        (["There is a red circle.", "There is a blue star.", "It is nice."], False),  # no mention
    ],
)
def test_splits(claims: list[str], correct: bool) -> None:
    text = "I can see a red circle and a blue star. A red circle. It is nice."
    assert TRUTH.split_is_correct(text, claims) is correct


def test_stray_words() -> None:
    assert TRUTH.has_stray_words("A red circle. Read more") and not TRUTH.has_stray_words("I can see a red circle.")
