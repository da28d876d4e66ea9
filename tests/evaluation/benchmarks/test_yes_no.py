"""POPE against numbers worked out by hand, and the three rules by which yes/no answers are read."""

import pytest

from evaluation.benchmarks.pope import Pope
from evaluation.benchmarks.questions import Question
from evaluation.benchmarks.yes_no import amber_rule, pope_rule, read_answer
from evaluation.statistics import total


def question(key: str, image: str = "1") -> Question:
    return Question(key, image, "?", b"")


def test_pope_by_hand() -> None:
    """By the published rule 1, 3, 5 and 6 are yes; read, 1 and 3 are yes, 2 and 4 no. 1, 2 and 5 are there."""
    labels = [True, True, False, False, True, False]
    answers = ["Yes", "There is no dog.", "Yes. No dog is seen.", "No", "", "Certainly, a dog"]
    pope = Pope([], {str(index): ("popular", label) for index, label in enumerate(labels)})
    figures = pope.figures(total(pope.count(question(str(index)), answer) for index, answer in enumerate(answers)))
    assert figures == {
        "popular_accuracy": 3 / 6,
        "popular_precision": 2 / 4,
        "popular_recall": pytest.approx(2 / 3),
        "popular_f1": pytest.approx(4 / 7),
        "popular_yes_ratio": pytest.approx(4 / 6),
        "popular_read_accuracy": 2 / 6,
        "popular_read_f1": pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)),
        "popular_unread": 2,
        "popular_questions": 6,
        "pope_unread": 2,
    }


@pytest.mark.parametrize(
    ("answer", "ours", "pope", "amber"),
    [
        ("Yes", True, True, True),
        (" Yes\n", True, True, True),
        ("yes, there is", True, True, None),
        ("Yes, there is no doubt", True, False, None),
        ("**Yes**", True, True, None),
        ("Answer: Yes", True, True, None),
        ("No", False, False, False),
        ("No.", False, False, None),
        ("NO!", False, True, None),
        ("no\nnothing", False, True, None),
        ("There is a dog.", True, True, None),
        ("There is no dog.", False, False, None),
        ("There isn't one", False, True, None),
        ("There aren't any dogs", False, True, None),
        ("There is no way to tell", None, False, None),
        ("There is not enough information.", None, False, None),
        ("None are visible", False, True, None),
        ("Nein", False, True, None),
        ("Ja, ein Hund.", True, True, None),
        ("\u5426\uff0c\u56fe\u4e2d\u6ca1\u6709\u6ed1\u96ea\u677f\u3002", False, True, None),
        ("\u6ca1\u6709", False, True, None),
        ("\u662f\u7684", True, True, None),
        ("\u56fe\u7247\u4e2d\u6709\u4e00\u53ea\u72d7", True, True, None),
        ("\u5716\u4e2d\u6c92\u6709\u72d7", False, True, None),
        ("\u6ca1\u9519", True, True, None),
        ("\u65e0\u6cd5\u5224\u65ad", None, True, None),
        ("\u6ca1\u6709\u529e\u6cd5\u5224\u65ad", None, True, None),
        ("\u662f\u5426\u6709\u72d7", None, True, None),
        ("I cannot tell.", None, True, None),
        ("It is not clear.", None, False, None),
        ("I know it. No.", None, True, None),
        ("Noodles", None, True, None),
        ("", None, True, None),
    ],
)
def test_reading_yes_and_no(answer: str, ours: bool | None, pope: bool, amber: bool | None) -> None:
    """pope: as evaluate.py of github RUCAIBox/POPE; amber: as inference.py of github junyangwang0410/AMBER."""
    assert (read_answer(answer), pope_rule(answer), amber_rule(answer)) == (ours, pope, amber)
