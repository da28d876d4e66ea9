"""What a text says about a scene: things, how two of them are placed, the kind of scene, the words of a sign.

| mention   | claim                                      | question                                   |
|-----------|--------------------------------------------|--------------------------------------------|
| thing     | There are two red apples at the top left.  | Are there two red apples at the top left?  |
| relation  | The cat is on the couch.                   | Is the cat on the couch?                   |
| kind      | This is a kitchen.                         | Is this a kitchen?                         |
| sign      | A sign says STOP.                          | Does a sign say STOP?                      |
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scenes.world import PLACES, SIZES, relation_of, relations
from scenes.world.things import COLORS, KINDS, THINGS

NUMBERS = ("two", "three")  # from 2
RELATIONS = ("next to", "on", "behind")
SINGULAR = {form.lower(): name for name, thing in THINGS.items() for form in (thing.plural, name)}

Truth = Mapping[str, Any]  # as `scenes.world.Scene.truth`


def place_phrase(place: str) -> str:
    preposition = {"center": "in", "left": "on", "right": "on"}.get(place, "at")
    return f"{preposition} the {place}"


def counted(name: str, number: int) -> str:
    """A name in its singular or plural, without an article."""
    return name if number == 1 else THINGS[name].plural


@dataclass(frozen=True)
class ThingMention:
    """One or several of a thing; None: not said."""

    name: str
    number: int = 1
    color: str | None = None
    size: str | None = None
    place: str | None = None

    @property
    def phrase(self) -> str:
        """As in "a small red car at the top left" or "two apples"."""
        words = " ".join(word for word in (self.size, self.color, counted(self.name, self.number)) if word)
        article = ("an" if words[0] in "aeiou" else "a") if self.number == 1 else NUMBERS[self.number - 2]
        return f"{article} {words} {place_phrase(self.place)}" if self.place else f"{article} {words}"

    @property
    def verb(self) -> str:
        return "is" if self.number == 1 else "are"

    @property
    def claim(self) -> str:
        return f"There {self.verb} {self.phrase}."

    @property
    def question(self) -> str:
        return f"{self.verb.capitalize()} there {self.phrase}?"


@dataclass(frozen=True)
class RelationMention:
    """Where a thing, or several of it, is relative to another; numbers, 1 or 2 for several, are only for the words."""

    name: str
    relation: str
    other: str
    number: int = field(default=1, compare=False)
    other_number: int = field(default=1, compare=False)

    @property
    def _parts(self) -> tuple[str, str, str]:
        subject = f"the {counted(self.name, self.number)}"
        rest = f"{self.relation} the {counted(self.other, self.other_number)}"
        return subject, "is" if self.number == 1 else "are", rest

    @property
    def claim(self) -> str:
        subject, verb, rest = self._parts
        return f"{subject.capitalize()} {verb} {rest}."

    @property
    def question(self) -> str:
        subject, verb, rest = self._parts
        return f"{verb.capitalize()} {subject} {rest}?"


@dataclass(frozen=True)
class KindMention:
    """The kind of scene."""

    kind: str

    @property
    def claim(self) -> str:
        return f"This is a {self.kind}."

    @property
    def question(self) -> str:
        return f"Is this a {self.kind}?"


@dataclass(frozen=True)
class SignMention:
    """The words of a sign."""

    text: str

    @property
    def claim(self) -> str:
        return f"A sign says {self.text}."

    @property
    def question(self) -> str:
        return f"Does a sign say {self.text}?"


Mention = ThingMention | RelationMention | KindMention | SignMention


def one_of(words: Sequence[str]) -> str:
    """A pattern of any of them, the longest first."""
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


NAMES = one_of(list(SINGULAR))
THING = (
    rf"\b(?P<article>an?|one|{'|'.join(NUMBERS)}) (?:(?P<size>{'|'.join(SIZES)}) )?(?:(?P<color>{'|'.join(COLORS)}) )?"
    rf"(?P<name>{NAMES})\b(?: (?:at|in|on) the (?P<place>{one_of(PLACES)})\b)?"
)
RELATION = rf"\bthe (?P<subject>{NAMES}) (?P<verb>is|are) (?P<relation>{'|'.join(RELATIONS)}) the (?P<other>{NAMES})\b"
KIND = rf"\b(?:a|the) (?P<kind>{'|'.join(KINDS)})\b"
SIGN = r"\bsign says (?P<text>\w+)"
MENTION = re.compile(f"{THING}|{RELATION}|{KIND}|{SIGN}", re.IGNORECASE)


def find_mentions(text: str) -> list[Mention]:
    """The mentions in the text, in order."""
    return [_mention(match) for match in MENTION.finditer(text)]


def _mention(match: re.Match[str]) -> Mention:
    if match["text"]:
        return SignMention(match["text"])
    groups = {key: value and value.lower() for key, value in match.groupdict().items()}
    if groups["kind"]:
        return KindMention(groups["kind"])
    if groups["relation"]:
        subject, other = groups["subject"], groups["other"]
        numbers = [1 if form in THINGS else 2 for form in (subject, other)]
        if groups["verb"] == "are":  # "sheep" has one form
            numbers[0] = 2
        return RelationMention(SINGULAR[subject], groups["relation"], SINGULAR[other], *numbers)
    number = NUMBERS.index(groups["article"]) + 2 if groups["article"] in NUMBERS else 1
    return ThingMention(SINGULAR[groups["name"]], number, groups["color"], groups["size"], groups["place"])


def mention_of_truth(item: Mapping[str, Any], with_size: bool = True, with_place: bool = True) -> ThingMention:
    """A mention with all that an entry of `objects` says."""
    size, place = item["size"] if with_size else None, item["place"] if with_place else None
    return ThingMention(item["name"], item["number"], item["color"], size, place)


def relation_mention(first: Mapping[str, Any], relation: str, second: Mapping[str, Any]) -> RelationMention:
    """A mention of two entries of `objects`, true or not."""
    return RelationMention(first["name"], relation, second["name"], min(first["number"], 2), min(second["number"], 2))


def true_relations(truth: Truth) -> list[RelationMention]:
    """All relations between the things of the scene."""
    return [relation_mention(*related) for related in relations(truth["objects"])]


def mention_is_true(mention: Mention, truth: Truth) -> bool:
    """Whether the scene is as the mention says. One of a thing is also there where there are several."""
    if isinstance(mention, SignMention):
        return bool(truth["sign"]) and truth["sign"]["text"] == mention.text
    if isinstance(mention, KindMention):
        return bool(truth["kind"] == mention.kind)
    if isinstance(mention, RelationMention):
        places = {item["name"]: item["place"] for item in truth["objects"]}
        if mention.name not in places or mention.other not in places:
            return False
        pair = (mention.name, places[mention.name], mention.other, places[mention.other])
        mirrored = mention.relation == "next to" and relation_of(*pair[2:], *pair[:2]) == "next to"
        return mirrored or relation_of(*pair) == mention.relation
    return any(describes(mention, item) for item in truth["objects"])


def count_things_found(mentions: Sequence[Mention], truth: Truth) -> int:
    """How many entries of `objects` at least one of the mentions describes."""
    things = [mention for mention in mentions if isinstance(mention, ThingMention)]
    return sum(any(describes(mention, item) for mention in things) for item in truth["objects"])


def describes(mention: ThingMention, item: Mapping[str, Any]) -> bool:
    """Whether the mention is true of one entry of `objects`."""
    stated = {key: value for key, value in vars(mention).items() if value is not None and key != "number"}
    return all(item[key] == value for key, value in stated.items()) and mention.number in (1, item["number"])
