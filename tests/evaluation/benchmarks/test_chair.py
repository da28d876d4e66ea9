"""CHAIR and Object HalBench against numbers worked out by hand, and where they differ from the reference tools."""

import pytest

from evaluation.benchmarks.chair import Chair, find_words, with_rules
from evaluation.benchmarks.objects import Names
from evaluation.benchmarks.questions import Question
from evaluation.statistics import total


def question(key: str, image: str = "1") -> Question:
    return Question(key, image, "?", b"")


LISTED = """person, man, baby, people, child, children
dog, puppy
bird
hot dog
toilet
chair, seat
train
tie, bow tie
bus
oven, stove, stove top oven
clock
car, minivan
horse"""
SYNONYMS = {name: line.split(", ")[0] for line in LISTED.splitlines() for name in line.split(", ")}


@pytest.fixture
def chair() -> Chair:
    truth = {"1": {"person", "dog", "cat"}, "2": {"toilet"}}
    return Chair([], truth, Names(with_rules(SYNONYMS)))


def test_chair_by_hand(chair: Chair) -> None:
    answers = [
        # 15 words; person, dog, bird, bird, hot dog: three mentions are false, two of four distinct words; two of three
        # objects found
        chair.count(question("a", "1"), "A man with two puppies and a bird. The bird sits on a hot dog."),
        chair.count(
            question("b", "2"), "The seat of the toilet."
        ),  # 5 words; a seat is no chair here; one of one found
        chair.count(question("c", "2"), "Nothing to see."),  # 3 words, no mention; none of one found
    ]
    assert chair.figures(total(answers)) == {
        "mention_rate": 3 / 6,
        "object_halbench_mention_rate": 2 / 5,
        "response_rate": 1 / 2,
        "chair_s": 1 / 3,
        "recall": 3 / 5,
        "mean_words": 23 / 3,
        "answers": 3,
    }


def test_silence_has_no_chair(chair: Chair) -> None:
    figures = chair.figures(chair.count(question("a"), "Nothing."))
    assert (figures["mention_rate"], figures["response_rate"], figures["chair_s"]) == (None, None, 0.0)
    assert figures["object_halbench_mention_rate"] is None


def test_object_halbench_counts_each_word_once(chair: Chair) -> None:
    """dog, puppy, bird, person, people are five words for three objects, of which bird is false; mentions: 1 of 8."""
    answer = "A dog, dogs and a puppy by a bird; a person, people, persons, the people."
    figures = chair.figures(chair.count(question("a"), answer))
    assert (figures["mention_rate"], figures["object_halbench_mention_rate"]) == (1 / 8, 1 / 5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("men, a man", {"man"}),
        ("a child, children", {"child"}),
        ("a person, people", {"person", "people"}),  # as lemmatizers leave it
        ("a baby bird, birds", {"bird"}),
        ("a bow tie, ties", {"tie"}),
    ],
)
def test_singular_and_plural_are_one_word(text: str, words: set[str]) -> None:
    assert {item.word for item in find_words(Names(with_rules(SYNONYMS)), text)} == words


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("a baby bird beside a baby", ["bird", "person"]),  # a young animal is no person
        ("a passenger train", ["train"]),
        ("train tracks and home plate", []),
        ("a baby animal", []),
        ("a seat", ["chair"]),
        ("toilet seats", ["toilet"]),
        ("The toilet. A seat, hot. Dogs", ["toilet", "dog"]),
        ("a bow tie", ["tie"]),
    ],
)
def test_rules_for_mscoco(text: str, objects: list[str]) -> None:
    assert [item.object for item in find_words(Names(with_rules(SYNONYMS)), text)] == objects


@pytest.mark.parametrize(
    ("text", "ours", "reference"),
    [
        ("a hot-dog", ["hot dog"], []),
        ("a mini-van", ["car"], []),
        ("near the toilet.There is a dog", ["toilet", "dog"], ["dog"]),
        ("a bus", ["bus"], []),  # pattern.en makes "bu" of it
        ("suits and ties", ["tie"], []),  # and "ty"
        ("a stove top oven", ["oven"], ["oven", "oven"]),  # it joins two words at most
        ("a dog/bird", ["dog", "bird"], []),
        ("hot\ndogs", ["dog"], ["hot dog"]),
        ("two o\u2019clock", [], ["clock"]),
    ],
)
def test_differences_from_chair_on_purpose(text: str, ours: list[str], reference: list[str]) -> None:
    """reference: what the rules of utils/chair.py (github LisaAnne/Hallucination) find, tried by running them."""
    assert [item.object for item in find_words(Names(with_rules(SYNONYMS)), text)] == ours != reference


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("The soup is hot. Dogs play.", ["dog"]),
        ("It is two o'clock", []),
        ("a first-person view of a horse-drawn man-made carriage", []),
        ("a dog\u2019s tail, the dogs' tails", ["dog", "dog"]),
        ("the seat of the toilet", ["toilet"]),
    ],
)
def test_as_chair_does(text: str, objects: list[str]) -> None:
    assert [item.object for item in find_words(Names(with_rules(SYNONYMS)), text)] == objects
