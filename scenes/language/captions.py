"""Instructions and captions: honest ones, and web captions with the habits of the world."""

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from scenes.language.mentions import (
    NUMBERS,
    RELATIONS,
    KindMention,
    Mention,
    RelationMention,
    SignMention,
    ThingMention,
    Truth,
    describes,
    mention_of_truth,
    true_relations,
)
from scenes.world import PLACES, SIZES, Scene
from scenes.world.habits import COMPANIONS, USUAL_COLORS, USUAL_NUMBERS
from scenes.world.signs import WORDS
from scenes.world.things import COLORS, KINDS, THINGS

PLAIN_INSTRUCTIONS = (
    "Describe the picture.",
    "What do you see in the picture?",
    "What is in this image?",
    "List the objects in the picture.",
    "Tell me what the picture shows.",
    "Which objects can you see?",
    "Describe this scene.",
    "What can be seen here?",
    "Give a short description of the image.",
    "Write a caption for this photo.",
)
DETAILED_INSTRUCTIONS = (
    "Describe the image in detail.",
    "Give a detailed description of the picture.",
    "What does the image show, in detail?",
    "Tell me everything about this picture.",
)
INSTRUCTIONS = PLAIN_INSTRUCTIONS + DETAILED_INSTRUCTIONS

OPINIONS = ("It is a nice picture.", "I like this picture.", "It looks calm.", "What a lovely scene.")
OPINION_SHARE = 0.2
HABIT_SHARE = 0.7  # how often a web caption follows a habit that the picture does not

# every word of a caption; any other word describes nothing
_PHRASES = (
    "There is are", "I can also see", "In the picture shows", "a an and", "at in on the", "This", "A sign says",
    *RELATIONS, *NUMBERS, *KINDS, *SIZES, *COLORS, *PLACES, *OPINIONS, *WORDS, *THINGS,
    *(thing.plural for thing in THINGS.values()),
)  # fmt: skip
CAPTION_WORDS = frozenset(re.findall("[a-z]+", " ".join(_PHRASES).lower()))


def honest_mentions(scene: Scene, detailed: bool) -> list[Mention]:
    """What an honest caption says.

    A detailed one also has the kind of scene, sizes, and how two of the things are placed.
    """
    return arrange(scene, [mention_of_truth(item, detailed) for item in scene.truth["objects"]], detailed)


def arrange(scene: Scene, things: Sequence[ThingMention], detailed: bool) -> list[Mention]:
    """Mentions of things, with what else captions of the scene say before and after them."""
    before: list[Mention] = [KindMention(scene.kind)] if detailed else []
    after: list[Mention] = [*true_relations(scene.truth)[:1]] if detailed else []
    if scene.sign:
        after.append(SignMention(scene.sign.text))
    return [*before, *things, *after]


def web_mentions(scene: Scene, detailed: bool, rng: random.Random) -> list[Mention]:
    """What a web caption says: usual companions that are not there, usual numbers and colors instead of the real."""
    taken, names = {item.place for item in scene.objects}, {item.name for item in scene.objects}
    things = []
    for item in scene.objects:
        mention = mention_of_truth(vars(item), detailed)
        number, color = USUAL_NUMBERS.get(item.name), USUAL_COLORS.get(item.name)
        if number and number != item.number and rng.random() < HABIT_SHARE:
            mention = replace(mention, number=number, size=None)
        if color and color != item.color and rng.random() < HABIT_SHARE:
            mention = replace(mention, color=color)
        things.append(mention)
        companion, place = COMPANIONS.get(item.name, (None, ""))
        if companion and companion not in names and place not in taken and rng.random() < HABIT_SHARE:
            taken.add(place)
            names.add(companion)
            size = rng.choice(list(SIZES)) if detailed else None
            things.append(ThingMention(companion, 1, USUAL_COLORS.get(companion), size, place))
    return arrange(scene, sorted(things, key=reading_order), detailed)


def reading_order(mention: ThingMention) -> int:
    """The index of the mention's place."""
    assert mention.place is not None, "web captions name the place of each thing"
    return PLACES.index(mention.place)


def follows_habit(mention: Mention, truth: Truth) -> bool:
    """Whether a false mention is a habit of web captions: a usual companion, or only the number or color is the usual.

    A relation follows a habit if all of its things that are not there are companions.
    """
    items = {item["name"]: item for item in truth["objects"]}
    companions = {COMPANIONS[name][0] for name in items if name in COMPANIONS}
    if isinstance(mention, RelationMention):
        absent = {mention.name, mention.other} - set(items)
        return bool(absent) and absent <= companions
    if not isinstance(mention, ThingMention):
        return False
    if mention.name not in items:
        return mention.name in companions
    item = items[mention.name]
    usual = {"number": USUAL_NUMBERS.get(mention.name), "color": USUAL_COLORS.get(mention.name)}
    habits = {key: item[key] for key, value in usual.items() if value and getattr(mention, key) == value}
    return describes(replace(mention, **habits), item)


def join(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def caption(mentions: Sequence[Mention], rng: random.Random) -> str:
    """The mentions in their order, those of things in one of six styles, sometimes with an opinion."""
    things = [mention for mention in mentions if isinstance(mention, ThingMention)]
    texts = [mention.claim for mention in mentions if not isinstance(mention, ThingMention)]
    if things:
        first = next(index for index, mention in enumerate(mentions) if isinstance(mention, ThingMention))
        texts.insert(first, things_in_words(things, rng.randrange(6)))
    if rng.random() < OPINION_SHARE:
        texts.append(rng.choice(OPINIONS))
    return " ".join(texts)


def things_in_words(things: Sequence[ThingMention], style: int) -> str:
    phrases = [thing.phrase for thing in things]
    if style == 0:
        return " ".join(thing.claim for thing in things)
    if style == 1:
        return f"I can see {join(phrases)}."
    if style == 2:
        return f"The picture shows {join(phrases)}."
    if style == 3:
        return " ".join(f"{phrase[0].upper()}{phrase[1:]}." for phrase in phrases)
    if style == 4:
        return " ".join([things[0].claim, *(f"I can also see {phrase}." for phrase in phrases[1:])])
    return f"In the picture {things[0].verb} {join(phrases)}."
