"""The truth of a scene, and texts compared with it."""

import json
from random import Random

import pytest

from evaluation.truth import Truth
from scenes.truth import SceneTruth
from tests.support.captions.scene_truth import REFERENCE, TRUTH


def test_mentions_are_checked_in_order() -> None:
    text = "This is a room. A cat, two green apples, a dog and a blue couch at the top. The cat is on the couch."
    assert TRUTH.check_mentions(f"{text} A sign says SHOP.") == [True, True, False, False, False, True, False]
    assert TRUTH.check_mentions("It is nice.") == []


def test_things_and_the_sign_are_found_by_true_mentions() -> None:
    truth: Truth = TRUTH  # the protocol
    assert truth.num_objects == 4
    assert truth.count_objects_found("A cat, two red apples on the left, a couch and a sign says STOP.") == 4
    assert truth.count_objects_found("An apple. A cat at the top. A large cat.") == 2
    assert truth.count_objects_found("A small cat at the top. A sign says SHOP.") == 0
    assert truth.count_objects_found("This is a room. The cat is on the couch.") == 0  # only mentions of things count


def test_without_a_sign_there_is_none_to_find() -> None:
    truth = SceneTruth(json.dumps({**json.loads(REFERENCE), "sign": None}))
    assert truth.num_objects == 3
    assert truth.count_objects_found("A cat. A sign says STOP.") == 1
    assert truth.check_mentions("A sign says STOP.") == [False]


@pytest.mark.parametrize(
    ("claim", "truth"),
    [
        ("There is a blue couch in the center.", True),
        ("There is a blue couch at the top.", False),
        ("There are two apples.", True),
        ("There are three apples.", False),
        ("The cat is on the couch.", True),
        ("This is a kitchen.", False),
        ("A sign says STOP.", True),
        ("It is a nice picture.", None),
        ("There is a cat and a couch.", None),
    ],
)
def test_claims(claim: str, truth: bool | None) -> None:
    assert TRUTH.claim_is_true(claim) is truth


@pytest.mark.parametrize(
    ("claims", "correct"),
    [
        (["There is a cat.", "There are two dogs.", "The dogs are next to the cat."], True),
        (["The dogs are next to the cat.", "There are two dogs.", "There is a cat."], True),
        (["There is a cat.", "There are two dogs."], False),  # one lost
        (
            ["There is a cat.", "There are two dogs.", "The dogs are next to the cat.", "There is a car."],
            False,
        ),  # added
        (
            ["There is a cat.", "There is a cat.", "There are two dogs.", "The dogs are next to the cat."],
            False,
        ),  # twice
        (["There is a cat and there are two dogs.", "The dogs are next to the cat."], False),  # not divided
        (["There is a cat.", "There is a dog.", "The dogs are next to the cat."], False),  # another number
        (
            ["There is a cat.", "There are two dogs.", "The dogs are next to the cat.", "It is nice."],
            False,
        ),  # no mention
    ],
)
def test_splits(claims: list[str], correct: bool) -> None:
    text = "I can see a cat and two dogs. A cat. The dogs are next to the cat. It is nice."
    assert TRUTH.split_is_correct(text, claims) is correct


def test_stray_words() -> None:
    assert not TRUTH.has_stray_words("This is a room. I can see two red apples. A sign says 42. I like this picture.")
    assert TRUTH.has_stray_words("A cat. Read more") and TRUTH.has_stray_words("A cat. 42abc")


def test_short_questions_are_about_the_scene() -> None:
    questions = {question.question: question.answer for question in TRUTH.short_questions(Random(0))}
    assert questions["What does the sign say?"] == "It says STOP."
    assert questions["What kind of place is this?"] == "It is a room."
