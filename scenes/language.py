"""The language of the embedded scenes: instructions, honest captions and web captions, claims, questions, and parsing
the mentions of objects in any text.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from scenes.world import COLORS, COMPANIONS, PLACES, SHAPES, SIZES, USUAL_COLORS, Scene, SceneObject

PLAIN_INSTRUCTIONS = (
    "Describe the picture.",
    "What do you see in the picture?",
    "What is in this image?",
    "List the objects in the picture.",
    "Tell me what the picture shows.",
    "Which objects can you see?",
    "Describe this scene.",
)
DETAILED_INSTRUCTIONS = (
    "Describe the image in detail.",
    "Give a detailed description of the picture.",
    "What does the image show, in detail?",
)
INSTRUCTIONS = PLAIN_INSTRUCTIONS + DETAILED_INSTRUCTIONS

OPINIONS = ("It is a nice picture.", "I like this picture.", "It looks calm.", "What a lovely scene.")
OPINION_SHARE = 0.2
HABIT_SHARE = 0.85  # how often a web caption follows a habit that the picture does not

# every word of a caption; any other word describes nothing
_PHRASES = ("There is", "I can also see", "The picture shows", "a", "an", "and", "at the", "in the", "on the")
CAPTION_WORDS = frozenset(
    re.findall("[a-z]+", " ".join([*SIZES, *COLORS, *SHAPES, *PLACES, *OPINIONS, *_PHRASES]).lower())
)


@dataclass(frozen=True)
class Mention:
    """What a text says about one object; None: not said."""

    color: str
    shape: str
    size: str | None = None
    place: str | None = None

    @property
    def phrase(self) -> str:
        """As in "a small red circle at the top left"."""
        words = " ".join(word for word in (self.size, self.color, self.shape) if word)
        article = "an" if words[0] in "aeiou" else "a"
        return f"{article} {words} {place_phrase(self.place)}" if self.place else f"{article} {words}"


def place_phrase(place: str) -> str:
    preposition = {"center": "in", "left": "on", "right": "on"}.get(place, "at")
    return f"{preposition} the {place}"


def claim_of(mention: Mention) -> str:
    return f"There is {mention.phrase}."


def question_of(mention: Mention) -> str:
    return f"Is there {mention.phrase}?"


def mention_of(item: SceneObject, with_size: bool) -> Mention:
    return Mention(item.color, item.shape, item.size if with_size else None, item.place)


def join(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def caption(mentions: Sequence[Mention], rng: random.Random) -> str:
    """The mentions in their order, in one of five styles, sometimes with an opinion."""
    phrases = [mention.phrase for mention in mentions]
    style = rng.randrange(5)
    if style == 0:
        text = " ".join(f"There is {phrase}." for phrase in phrases)
    elif style == 1:
        text = f"I can see {join(phrases)}."
    elif style == 2:
        text = f"The picture shows {join(phrases)}."
    elif style == 3:
        text = " ".join(f"{phrase[0].upper()}{phrase[1:]}." for phrase in phrases)
    else:
        text = " ".join([f"There is {phrases[0]}.", *(f"I can also see {phrase}." for phrase in phrases[1:])])
    return f"{text} {rng.choice(OPINIONS)}" if rng.random() < OPINION_SHARE else text


def honest_mentions(scene: Scene, instruction: str) -> list[Mention]:
    return [mention_of(item, instruction in DETAILED_INSTRUCTIONS) for item in scene.objects]


def web_mentions(scene: Scene, instruction: str, rng: random.Random) -> list[Mention]:
    """Mentions of a web caption: usual companions that are not there, usual colors instead of the real ones."""
    with_size = instruction in DETAILED_INSTRUCTIONS
    taken = {item.place for item in scene.objects}
    mentions = []
    for item in scene.objects:
        mention = mention_of(item, with_size)
        usual = USUAL_COLORS.get((item.color, item.shape))
        if usual and rng.random() < HABIT_SHARE:
            mention = replace(mention, color=usual)
        mentions.append(mention)
        companion = COMPANIONS.get((item.color, item.shape))
        if companion and companion[2] not in taken and rng.random() < HABIT_SHARE:
            color, shape, place = companion
            taken.add(place)
            mentions.append(Mention(color, shape, rng.choice(list(SIZES)) if with_size else None, place))
    return sorted(mentions, key=lambda mention: PLACES.index(mention.place or ""))


MENTION = re.compile(
    rf"\b(?:(?P<size>{'|'.join(SIZES)}) )?(?P<color>{'|'.join(COLORS)}) (?P<shape>{'|'.join(SHAPES)})s?\b"
    rf"(?: (?:at|in|on) the (?P<place>{'|'.join(sorted(PLACES, key=len, reverse=True))})\b)?",
    re.IGNORECASE,
)


def find_mentions(text: str) -> list[Mention]:
    """The mentions of objects in the text, in order."""
    return [
        Mention(**{key: value and value.lower() for key, value in match.groupdict().items()})
        for match in MENTION.finditer(text)
    ]


def mention_is_true(mention: Mention, objects: Sequence[dict[str, Any]]) -> bool:
    """Whether some object has every attribute that the mention states; objects: as in `Scene.truth`."""
    stated = {key: value for key, value in vars(mention).items() if value is not None}
    return any(all(item[key] == value for key, value in stated.items()) for item in objects)
