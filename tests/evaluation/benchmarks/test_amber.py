"""AMBER against numbers worked out by hand, and where it differs from the reference tool."""

from collections import Counter

import pytest

from evaluation.benchmarks.amber import KINDS, Amber, Scene, YesNo
from evaluation.benchmarks.objects import Names
from evaluation.benchmarks.questions import Question
from evaluation.statistics import total


def question(key: str, image: str = "1") -> Question:
    return Question(key, image, "?", b"")


RELATIONS = {
    "sky": [], "forest": ["tree"], "tree": ["forest"], "person": ["man", "people"], "sea": ["water"], "dog": [],
    "orange": [],
}  # fmt: skip


@pytest.fixture
def amber() -> Amber:
    scene = Scene(["forest", "tree", "person", "sky"], ["dog", "sea"])
    kinds = list(KINDS)
    annotations: dict[str, Scene | YesNo] = {"1": scene, "2": scene}
    for key, kind, truth in (
        ("state no", 1, False),
        ("state yes", 1, True),
        ("number yes", 2, True),
        ("action no", 3, False),
        ("existence no", 0, False),
        ("relation yes", 4, True),
        ("relation no", 5, False),
    ):
        annotations[key] = YesNo(KINDS[kinds[kind]], truth)
    words = [*RELATIONS, *(word for others in RELATIONS.values() for word in others)]
    return Amber([], annotations, RELATIONS, frozenset({"orange"}), Names({word: word for word in words}))


def test_amber_descriptions_by_hand(amber: Amber) -> None:
    """Six words: man and people are the person, trees the forest, orange is safe; dog and water are imagined."""
    first = amber.count(question("1"), "A man and people by the trees; a dog, an orange, water and light.")
    second = amber.count(question("2"), "The sky.")
    figures = amber.figures(total([first, second]))
    assert {name: figures[name] for name in ("chair", "cover", "hal", "cog", "mean_words", "descriptions")} == {
        "chair": 2 / 7,
        "cover": (2 + 1) / 8,
        "hal": 1 / 2,
        "cog": 2 / 4,
        "mean_words": (14 + 2) / 2,
        "descriptions": 2,
    }


def test_amber_questions_by_hand(amber: Amber) -> None:
    """The positive class is no, four in all: predicted for state no, existence no (correct) and state yes (wrong)."""
    answers = {
        "state no": "No.",
        "state yes": "No",
        "number yes": "Yes, three.",
        "action no": "Yes",
        "existence no": "no",
        "relation yes": "Yes",
        "relation no": "It is not clear.",
    }
    figures = amber.figures(total(amber.count(question(key), answer) for key, answer in answers.items()))
    expected = {
        "": (4 / 7, 2 / 3, 2 / 4, 4 / 7, 7),
        "existence_": (1.0, 1.0, 1.0, 1.0, 1),
        "attribute_": (2 / 4, 1 / 2, 1 / 2, 1 / 2, 4),
        "state_": (1 / 2, 1 / 2, 1.0, 2 / 3, 2),
        "number_": (1.0, None, None, None, 1),
        "action_": (0.0, None, 0.0, None, 1),
        "relation_": (1 / 2, None, 0.0, None, 2),
    }
    for kind, values in expected.items():
        computed = [figures[f"{kind}{name}"] for name in ("accuracy", "precision", "recall", "f1", "questions")]
        assert computed == [None if value is None else pytest.approx(value) for value in values], kind
    assert figures["unread_answers"] == 1


def test_amber_reads_exactly_yes_and_no_in_the_reference(amber: Amber) -> None:
    """Ours: all three right. Exactly: "No." and "no" are wrong and no answer of no; "Yes" is right."""
    answers = {"state no": "No.", "existence no": "no", "number yes": "Yes", "relation no": "No"}
    figures = amber.figures(total(amber.count(question(key), answer) for key, answer in answers.items()))
    assert (figures["accuracy"], figures["f1"]) == (1.0, 1.0)
    assert figures["exact_accuracy"] == 2 / 4 and figures["exact_f1"] == pytest.approx(2 * (1 / 3) / (1 + 1 / 3))
    assert (figures["state_exact_accuracy"], figures["relation_exact_accuracy"]) == (0.0, 1.0)


def test_a_word_in_truth_and_hallu_is_there_and_a_double_word_covers_one(amber: Amber) -> None:
    """As in the reference: sky is true although in hallu too; the second dog in truth is never covered."""
    scene = Scene(["dog", "sky", "dog"], ["sky", "sea"])
    odd = Amber([], {"1": scene}, RELATIONS, frozenset(), amber.names)
    figures = odd.figures(odd.count(question("1"), "A dog, another dog, the sky."))
    assert (figures["chair"], figures["hal"], figures["cover"], figures["cog"]) == (0.0, 0.0, 2 / 3, 0.0)


@pytest.mark.parametrize(("text", "chair"), [("Dogs", 1.0), ("a dog-friendly place", None), ("the sky. Sea-dogs", 0.0)])
def test_words_of_amber(amber: Amber, text: str, chair: float | None) -> None:
    """Unlike in the reference, a plural in capitals counts: "Dogs" is a proper noun there and stays as it is."""
    scene = Amber([], {"1": Scene(["sky"], [])}, RELATIONS, frozenset(), amber.names)
    assert scene.figures(scene.count(question("1"), text))["chair"] == chair


def test_amber_shows_what_was_asked(amber: Amber) -> None:
    questions_alone = Amber([], {"1": amber.annotations["state no"]}, RELATIONS, frozenset(), Names({}))
    shown = questions_alone.figures(Counter())
    assert "chair" not in shown and "relation_accuracy" not in shown and "state_accuracy" in shown
