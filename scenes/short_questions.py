"""Short questions about an embedded scene, whose answers follow from its truth.

| kind   | question                                                   | answer                       |
|--------|------------------------------------------------------------|------------------------------|
| lookup | What is at the top left?                                   | a small red circle; nothing  |
| color  | Is there anything red? Answer yes or no.                   | Yes or No                    |
| claim  | Is there a red circle at the top left? Answer yes or no.   | Yes or No                    |

The wording is that of the tasks which the embedded models were trained on (scenes.recipe.tasks). There is no question
on numbers and none that asks for a color alone: these models answer both with a caption, before and after alignment.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from scenes.language import Mention, mention_is_true, place_phrase, question_of
from scenes.prompts import VERIFY_PROMPT
from scenes.world import COLORS, PLACES, SHAPES

EMPTY_SHARE = 0.25  # of the lookups ask about a position without an object


class ShortQuestion(NamedTuple):
    """kind: as in the table above."""

    kind: str
    question: str
    answer: str


def short_questions(objects: Sequence[dict[str, Any]], rng: random.Random) -> list[ShortQuestion]:
    """One question of each kind; objects: as in `Scene.truth`. Half of the answers to yes/no questions are yes."""
    return [lookup(objects, rng), color_question(objects, rng), claim_question(objects, rng)]


def lookup(objects: Sequence[dict[str, Any]], rng: random.Random) -> ShortQuestion:
    """What is at a position: size, color and shape of the object there, or nothing."""
    phrases = {item["place"]: Mention(item["color"], item["shape"], item["size"]).phrase for item in objects}
    empty = rng.random() < EMPTY_SHARE
    place = rng.choice([place for place in PLACES if (place not in phrases) == empty])
    return ShortQuestion("lookup", f"What is {place_phrase(place)}?", phrases.get(place, "nothing"))


def color_question(objects: Sequence[dict[str, Any]], rng: random.Random) -> ShortQuestion:
    """Whether a color occurs."""
    present = {item["color"] for item in objects}
    truth = rng.random() < 0.5
    color = rng.choice([color for color in COLORS if (color in present) == truth])
    return yes_no("color", f"Is there anything {color}?", truth)


def claim_question(objects: Sequence[dict[str, Any]], rng: random.Random) -> ShortQuestion:
    """Whether an object is at a position; where not, its color, shape or position differs from an object's."""
    item = rng.choice(objects)
    mention = Mention(item["color"], item["shape"], None, item["place"])
    truth = rng.random() < 0.5
    if not truth:
        values: dict[str, Sequence[str]] = {"color": list(COLORS), "shape": SHAPES, "place": PLACES}
        false = {
            name: [
                other
                for value in values[name]
                if not mention_is_true(other := replace(mention, **{name: value}), objects)
            ]
            for name in values
        }
        mention = rng.choice(false[rng.choice(list(values))])
    return yes_no("claim", question_of(mention), truth)


def yes_no(kind: str, question: str, truth: bool) -> ShortQuestion:
    return ShortQuestion(kind, VERIFY_PROMPT.replace("{question}", question), "Yes" if truth else "No")
