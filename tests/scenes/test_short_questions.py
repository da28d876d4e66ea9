"""Short questions about scenes: their answers are true, and half of the yes/no answers are yes."""

import json
import random
import re
from collections import Counter

import pytest

from scenes.language import RelationMention, SignMention, ThingMention, find_mentions, mention_is_true
from scenes.language.mentions import Truth, mention_of_truth, place_phrase, true_relations
from scenes.short_questions import QUESTION_KINDS, ShortQuestion, altered, short_questions
from scenes.world import PLACES, hidden_by, sample_scene
from scenes.world.things import THINGS
from tests.support.captions.asking import question_mention
from tests.support.captions.scene_truth import REFERENCE

TRUTH = json.loads(REFERENCE)
YES_NO = ("exists", "claim", "relation")
COUNTS = {"There are none.": 0, "There is one.": 1, "There are two.": 2, "There are three.": 3}


def answer_is_true(question: ShortQuestion, truth: Truth) -> bool:
    """Whether the scene is as the answer says, found from the texts alone."""
    kind, text, answer = question
    if kind in YES_NO:
        return mention_is_true(question_mention(text), truth) == (answer == "Yes")
    forms = {form: name for name, thing in THINGS.items() for form in (thing.plural, name)}
    if kind == "lookup":
        (place,) = [place for place in PLACES if text == f"What is {place_phrase(place)}?"]
        here = [item for item in truth["objects"] if item["place"] == place]
        if answer == "nothing":
            return not here and (not truth["sign"] or place not in hidden_by(truth["sign"]["place"]))
        return find_mentions(answer) == [mention_of_truth(item, with_place=False) for item in here]
    if kind == "number":
        (name,) = re.fullmatch(r"How many (.+) are there\?", text).groups()  # type: ignore[union-attr]
        here = [item["number"] for item in truth["objects"] if item["name"] == forms[name]]
        return here == ([COUNTS[answer]] if COUNTS[answer] else [])
    if kind in ("color", "place"):
        (name,) = re.fullmatch(r"(?:What color|Where) (?:is|are) the (.+)\?", text).groups()  # type: ignore[union-attr]
        (item,) = [item for item in truth["objects"] if item["name"] == forms[name]]
        value = item["color"] if kind == "color" else place_phrase(item["place"])
        return answer == f"{'It is' if item['number'] == 1 else 'They are'} {value}."
    if kind == "kind":
        return mention_is_true(find_mentions(answer)[0], truth)
    return mention_is_true(SignMention(answer.removeprefix("It says ").removesuffix(".")), truth)


def test_answers_are_true_and_half_of_the_yes_no_answers_are_yes() -> None:
    answers: dict[str, Counter[str]] = {kind: Counter() for kind in QUESTION_KINDS}
    for index in range(1500):
        rng = random.Random(index)
        scene = sample_scene(rng)
        questions = short_questions(scene.truth, rng)
        assert [question.kind for question in questions] == [
            kind
            for kind in QUESTION_KINDS
            if (kind != "color" or any(item.color for item in scene.objects))
            and (kind != "sign" or scene.sign)
            and (kind != "relation" or true_relations(scene.truth))
        ]
        for question in questions:
            assert answer_is_true(question, scene.truth), (question, scene.truth)
            answers[question.kind][question.answer] += 1
    for kind in YES_NO:
        assert 0.45 < answers[kind]["Yes"] / answers[kind].total() < 0.55, kind
    assert 0.15 < answers["lookup"]["nothing"] / answers["lookup"].total() < 0.35
    assert 0.15 < answers["number"]["There are none."] / answers["number"].total() < 0.35
    assert answers["sign"].total() > 200


def test_a_false_answer_is_not_taken_for_a_true_one() -> None:
    """The check above, on answers that are wrong."""
    for kind, text, answer in (
        ("exists", "Is there a dog? Answer yes or no.", "Yes"),
        ("claim", "Are there two red apples on the left? Answer yes or no.", "No"),
        ("relation", "Is the cat behind the couch? Answer yes or no.", "Yes"),
        ("lookup", "What is at the top?", "nothing"),
        ("lookup", "What is at the top?", "a small cat"),
        ("lookup", "What is at the bottom?", "nothing"),  # the sign
        ("number", "How many apples are there?", "There is one."),
        ("number", "How many dogs are there?", "There is one."),
        ("color", "What color is the couch?", "It is red."),
        ("place", "Where are the apples?", "They are at the top."),
        ("kind", "What kind of place is this?", "It is a kitchen."),
        ("sign", "What does the sign say?", "It says SHOP."),
    ):
        assert not answer_is_true(ShortQuestion(kind, text, answer), TRUTH), text


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("color", {("What color is the couch?", "It is blue."), ("What color are the apples?", "They are red.")}),
        ("kind", {("What kind of place is this?", "It is a room.")}),
        ("sign", {("What does the sign say?", "It says STOP.")}),
        (
            "place",
            {
                ("Where is the cat?", "It is at the top."),
                ("Where are the apples?", "They are on the left."),
                ("Where is the couch?", "It is in the center."),
            },
        ),
    ],
)
def test_wording(kind: str, expected: set[tuple[str, str]]) -> None:
    questions = [QUESTION_KINDS[kind](TRUTH, random.Random(index)) for index in range(50)]
    assert {(question.question, question.answer) for question in questions if question} == expected


def test_altered_mentions_are_false_and_differ_in_one_thing() -> None:
    mention = mention_of_truth(TRUTH["objects"][2])
    assert mention == ThingMention("couch", 1, "blue", "small", "center")
    changed = set()
    for index in range(100):
        for other in altered(mention, TRUTH, random.Random(index)):
            assert not mention_is_true(other, TRUTH)
            (name,) = [name for name, value in vars(other).items() if value != getattr(mention, name)]
            changed.add(name)
    assert changed == {"name", "color", "size", "place"}  # there is never more than one couch


def test_relations_of_the_truth() -> None:
    assert set(true_relations(TRUTH)) == {
        RelationMention("cat", "on", "couch"),
        RelationMention("apple", "next to", "couch"),
    }
