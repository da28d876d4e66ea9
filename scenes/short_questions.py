"""Short questions about an embedded scene, whose answers follow from its truth.

| kind     | question                                                   | answer                         |
|----------|------------------------------------------------------------|--------------------------------|
| lookup   | What is at the top left?                                   | a small red car; nothing       |
| color    | What color is the car?                                     | It is red.                     |
| number   | How many apples are there?                                 | There are two.                 |
| place    | Where is the car?                                          | It is at the top left.         |
| kind     | What kind of place is this?                                | It is a kitchen.               |
| sign     | What does the sign say?                                    | It says STOP.                  |
| exists   | Is there a car? Answer yes or no.                          | Yes or No                      |
| claim    | Is there a red car at the top left? Answer yes or no.      | Yes or No                      |
| relation | Is the cat on the couch? Answer yes or no.                 | Yes or No                      |

Half of the answers to yes/no questions are yes. The embedded models were trained on the same questions about other
scenes (`scenes.recipe.tasks`).
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from scenes.language import RelationMention, ThingMention, mention_is_true, place_phrase
from scenes.language.mentions import NUMBERS, RELATIONS, Truth, counted, mention_of_truth, true_relations
from scenes.prompts import VERIFY_PROMPT
from scenes.world import PLACES, hidden_by
from scenes.world.habits import COMPANIONS
from scenes.world.things import THINGS

EMPTY_SHARE = 0.25  # of the lookups ask about a place without a thing
ABSENT_SHARE = 0.25  # of the questions for a number ask about a thing that is not there
NONE = "There are none."  # the answer to a question for the number of a thing that is not there


class ShortQuestion(NamedTuple):
    """kind: as in the table above."""

    kind: str
    question: str
    answer: str


def short_questions(truth: Truth, rng: random.Random) -> list[ShortQuestion]:
    """One question of each kind that fits the scene, so six to nine; truth: as `Scene.truth`."""
    return [question for kind in QUESTION_KINDS.values() if (question := kind(truth, rng))]


def lookup(truth: Truth, rng: random.Random) -> ShortQuestion:
    """What is at a place: everything about the thing there, or nothing."""
    phrases = {item["place"]: mention_of_truth(item, with_place=False).phrase for item in truth["objects"]}
    hidden = hidden_by(truth["sign"]["place"]) if truth["sign"] else ()
    empty = [place for place in PLACES if place not in phrases and place not in hidden]
    place = rng.choice(empty if empty and rng.random() < EMPTY_SHARE else list(phrases))
    return ShortQuestion("lookup", f"What is {place_phrase(place)}?", phrases.get(place, "nothing"))


def color_question(truth: Truth, rng: random.Random) -> ShortQuestion | None:
    colored = [item for item in truth["objects"] if item["color"]]
    if not colored:
        return None
    item = rng.choice(colored)
    verb, pronoun = ("is", "It is") if item["number"] == 1 else ("are", "They are")
    thing = counted(item["name"], item["number"])
    return ShortQuestion("color", f"What color {verb} the {thing}?", f"{pronoun} {item['color']}.")


def number_question(truth: Truth, rng: random.Random) -> ShortQuestion:
    numbers = {item["name"]: item["number"] for item in truth["objects"]}
    absent = rng.random() < ABSENT_SHARE
    name = (absent_name(truth, rng) if absent else None) or rng.choice(list(numbers))
    answer = {0: NONE, 1: "There is one."} | {
        number: f"There are {word}." for number, word in enumerate(NUMBERS, start=2)
    }
    return ShortQuestion("number", f"How many {THINGS[name].plural} are there?", answer[numbers.get(name, 0)])


def place_question(truth: Truth, rng: random.Random) -> ShortQuestion:
    item = rng.choice(truth["objects"])
    verb, pronoun = ("is", "It is") if item["number"] == 1 else ("are", "They are")
    thing = counted(item["name"], item["number"])
    return ShortQuestion("place", f"Where {verb} the {thing}?", f"{pronoun} {place_phrase(item['place'])}.")


def kind_question(truth: Truth, rng: random.Random) -> ShortQuestion:
    return ShortQuestion("kind", "What kind of place is this?", f"It is a {truth['kind']}.")


def sign_question(truth: Truth, rng: random.Random) -> ShortQuestion | None:
    if not truth["sign"]:
        return None
    return ShortQuestion("sign", "What does the sign say?", f"It says {truth['sign']['text']}.")


def absent_name(truth: Truth, rng: random.Random, names: Iterable[str] = THINGS) -> str | None:
    """One of the names that is not there, half of the time one that usually is beside a thing of the scene.

    None: all are there.
    """
    present = {item["name"] for item in truth["objects"]}
    absent = [name for name in names if name not in present]
    companions = [COMPANIONS[name][0] for name in sorted(present) if name in COMPANIONS]
    likely = [name for name in companions if name in absent]
    return rng.choice(likely if likely and rng.random() < 0.5 else absent) if absent else None


def fits(name: str, mention: ThingMention) -> bool:
    """Whether a thing may have the color and the number of a mention."""
    thing = THINGS[name]
    colored = mention.color in thing.colors if mention.color else not thing.colors
    return colored and thing.max_number >= mention.number


def exists_question(truth: Truth, rng: random.Random) -> ShortQuestion:
    """Whether there is a thing."""
    name = None if rng.random() < 0.5 else absent_name(truth, rng)
    return yes_no("exists", ThingMention(name or rng.choice(truth["objects"])["name"]).question, name is None)


def claim_question(truth: Truth, rng: random.Random) -> ShortQuestion:
    """Whether a thing is as a claim says; where it is not, its name, number, color, size or place differs."""
    mention = mention_of_truth(rng.choice(truth["objects"]), with_size=rng.random() < 0.5)
    correct = rng.random() < 0.5
    if not correct:
        mention = rng.choice(altered(mention, truth, rng))
    return yes_no("claim", mention.question, correct)


def altered(mention: ThingMention, truth: Truth, rng: random.Random) -> list[ThingMention]:
    """False mentions that differ from a true one, one for each attribute that it states; each could be true elsewhere.

    They could: no thing has a color or a number that it never has, so that the text alone does not tell.
    """
    thing = THINGS[mention.name]
    other_name = absent_name(truth, rng, [name for name in THINGS if fits(name, mention)])
    changes: list[dict[str, Any]] = [
        {"name": other_name or mention.name},
        {"place": rng.choice([place for place in PLACES if place != mention.place])},
    ]
    numbers = [number for number in range(1, thing.max_number + 1) if number not in (1, mention.number)]
    if numbers:
        changes.append({"number": rng.choice(numbers), "size": None})
    if mention.color:
        changes.append({"color": rng.choice([color for color in thing.colors if color != mention.color])})
    if mention.size:
        changes.append({"size": "large" if mention.size == "small" else "small"})
    others = [replace(mention, **change) for change in changes]
    return [other for other in others if not mention_is_true(other, truth)]


def relation_question(truth: Truth, rng: random.Random) -> ShortQuestion | None:
    """Whether two things are placed as a claim says; where they are not, the relation or a thing differs."""
    true = true_relations(truth)
    if not true:
        return None
    mention = rng.choice(true)
    correct = rng.random() < 0.5
    if not correct:
        mention = rng.choice(altered_relations(mention, truth, rng))
    return yes_no("relation", mention.question, correct)


def altered_relations(mention: RelationMention, truth: Truth, rng: random.Random) -> list[RelationMention]:
    """False mentions that differ from a true one in the relation or in the second thing.

    Some could be true nowhere, such as a thing on one that carries nothing: the text tells part of the answers.
    """
    others = [replace(mention, relation=relation) for relation in RELATIONS]
    others.append(replace(mention, other=absent_name(truth, rng) or mention.name, other_number=1))
    return [other for other in others if not mention_is_true(other, truth)]


def yes_no(kind: str, question: str, correct: bool) -> ShortQuestion:
    return ShortQuestion(kind, VERIFY_PROMPT.replace("{question}", question), "Yes" if correct else "No")


QuestionSampler = Callable[[Truth, random.Random], ShortQuestion | None]  # None: the scene has nothing to ask about
QUESTION_KINDS: dict[str, QuestionSampler] = {
    "lookup": lookup,
    "color": color_question,
    "number": number_question,
    "place": place_question,
    "kind": kind_question,
    "sign": sign_question,
    "exists": exists_question,
    "claim": claim_question,
    "relation": relation_question,
}
