"""The tasks that the embedded models are trained on, as (prompt, answer) branches: captions, yes/no questions, reading,
splitting into claims.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scenes.language import (
    DETAILED_INSTRUCTIONS,
    INSTRUCTIONS,
    PLAIN_INSTRUCTIONS,
    Mention,
    caption,
    claim_of,
    find_mentions,
    honest_mentions,
    mention_is_true,
    mention_of,
    place_phrase,
    question_of,
    web_mentions,
)
from scenes.prompts import SPLIT_PROMPT, VERIFY_PROMPT, WHOLE_PROMPT
from scenes.rendered_text import INSTRUCTIONS as READING_INSTRUCTIONS
from scenes.world import COLORS, PLACES, SHAPES, SIZES, Scene, SceneObject, sample_scene

EASY = ("color", "shape", "place", "color shape")
BINDING = (
    *EASY,
    "color place",
    "shape place",
)  # combinations of attributes: harder than one attribute, easier than a whole claim


@dataclass(frozen=True)
class Branch:
    """One question about an image or a text, and its answer; branches of one image do not attend to each other.

    kind: "text", "lookup" or "verdict".
    """

    prompt: str
    answer: str
    kind: str


def captioning(
    scene: Scene, rng: random.Random, web: bool = False, instructions: Sequence[str] = INSTRUCTIONS
) -> list[Branch]:
    """One caption: honest, or with the habits of the web."""
    instruction = rng.choice(instructions)
    mentions = web_mentions(scene, instruction, rng) if web else honest_mentions(scene, instruction)
    return [Branch(instruction, caption(mentions, rng), "text")]


def verdict(question: str, truth: bool) -> Branch:
    return Branch(VERIFY_PROMPT.replace("{question}", question), "Yes" if truth else "No", "verdict")


def reading(words: str, rng: random.Random) -> Branch:
    """Reading rendered text."""
    return Branch(rng.choice(READING_INSTRUCTIONS), words, "text")


def lookup(scene: Scene, rng: random.Random) -> Branch:
    """What is at a position, mostly one with an object: a step towards verdicts on whole claims."""
    place = rng.choice(scene.objects).place if rng.random() < 0.75 else rng.choice(PLACES)
    mentions = [replace(mention_of(item, with_size=True), place=None) for item in scene.objects if item.place == place]
    return Branch(f"What is {place_phrase(place)}?", mentions[0].phrase if mentions else "nothing", "lookup")


def random_mention(rng: random.Random, with_size: bool) -> Mention:
    return Mention(
        rng.choice(list(COLORS)), rng.choice(SHAPES), rng.choice(list(SIZES)) if with_size else None, rng.choice(PLACES)
    )


def false_mention(scene: Scene, rng: random.Random, with_size: bool) -> Mention:
    """A mention that is false of the scene: an error of a web caption, a true mention with one attribute changed (most
    often size or shape, the hardest to see), or a random one.
    """
    truth = scene.truth["objects"]
    kinds: dict[str, Sequence[str]] = {"color": list(COLORS), "shape": SHAPES, "place": PLACES, "size": list(SIZES)}
    instruction = rng.choice(DETAILED_INSTRUCTIONS if with_size else PLAIN_INSTRUCTIONS)
    while True:
        kind = rng.random()
        if kind < 0.4:
            mention = rng.choice(web_mentions(scene, instruction, rng))
        elif kind < 0.85:
            attribute = rng.choice(["color", "shape", "shape", "place", *(["size"] * 3 if with_size else [])])
            changed = {attribute: rng.choice(kinds[attribute])}
            mention = replace(mention_of(rng.choice(scene.objects), with_size), **changed)
        else:
            mention = random_mention(rng, with_size)
        if not mention_is_true(mention, truth):
            return mention


def claim_question(scene: Scene, rng: random.Random) -> Branch:
    """Whether a whole claim is true; half of the claims are."""
    with_size = rng.random() < 0.5
    truth = rng.random() < 0.5
    mention = mention_of(rng.choice(scene.objects), with_size) if truth else false_mention(scene, rng, with_size)
    return verdict(question_of(mention), truth)


def easy_question(scene: Scene, rng: random.Random, kinds: Sequence[str] = EASY) -> Branch:
    """Whether one or two attributes occur; about half of the answers are yes."""
    items: Sequence[SceneObject] = scene.objects
    kind = rng.choice(kinds)
    item = rng.choice(items)
    color, shape, place = item.color, item.shape, item.place
    if rng.random() < 0.5:
        color, shape, place = rng.choice(list(COLORS)), rng.choice(SHAPES), rng.choice(PLACES)
        if kind == "color shape" and rng.random() < 0.5:
            color = item.color
        if kind.endswith(" place"):
            other = rng.choice(items) if rng.random() < 0.5 else None  # its attributes, but at this position
            color, shape, place = (other.color, other.shape, item.place) if other else (color, shape, item.place)
    if kind == "color":
        return verdict(f"Is there anything {color}?", any(item.color == color for item in items))
    if kind == "shape":
        return verdict(f"Is there a {shape}?", any(item.shape == shape for item in items))
    if kind == "place":
        return verdict(f"Is there anything {place_phrase(place)}?", any(item.place == place for item in items))
    if kind == "color place":
        truth = any((item.color, item.place) == (color, place) for item in items)
        return verdict(f"Is there anything {color} {place_phrase(place)}?", truth)
    if kind == "shape place":
        truth = any((item.shape, item.place) == (shape, place) for item in items)
        return verdict(f"Is there a {shape} {place_phrase(place)}?", truth)
    return verdict(
        question_of(Mention(color, shape)), any((item.color, item.shape) == (color, shape) for item in items)
    )


def questions(
    scene: Scene, rng: random.Random, count: int, claim_share: float = 0.5, kinds: Sequence[str] = EASY
) -> list[Branch]:
    """`count` yes/no questions: a share of whole claims, the others easy ones of these kinds."""
    return [
        claim_question(scene, rng) if rng.random() < claim_share else easy_question(scene, rng, kinds)
        for _ in range(count)
    ]


def whole_question(scene: Scene, rng: random.Random) -> Branch:
    """Whether a whole description is correct: the baseline that divide-and-conquer is compared with."""
    instruction = rng.choice(INSTRUCTIONS)
    mentions = honest_mentions(scene, instruction)
    if rng.random() < 0.5:
        wrong = false_mention(scene, rng, instruction in DETAILED_INSTRUCTIONS)
        kept = [mention for mention in mentions if mention.place != wrong.place]
        mentions = sorted([*kept, wrong], key=lambda mention: PLACES.index(mention.place or ""))
    truth = all(mention_is_true(mention, scene.truth["objects"]) for mention in mentions)
    return Branch(WHOLE_PROMPT.replace("{response}", caption(mentions, rng)), "Yes" if truth else "No", "verdict")


def split_answer(response: str) -> str:
    """The claims of a caption with their questions, as the JSON that structured output enforces (no white space)."""
    claims = [{"claim": claim_of(mention), "question": question_of(mention)} for mention in find_mentions(response)]
    return json.dumps({"claims": claims}, separators=(",", ":"))


def splitting(rng: random.Random, count: int) -> list[Branch]:
    """Captions to split, half of them of any objects in any order, as a policy under training may write them."""
    branches = []
    for _ in range(count):
        with_size = rng.random() < 0.4
        if rng.random() < 0.5:
            mentions = [mention_of(item, with_size) for item in sample_scene(rng).objects]
        else:
            mentions = [random_mention(rng, with_size) for _ in range(rng.randint(1, 6))]
        response = caption(mentions, rng)
        branches.append(Branch(SPLIT_PROMPT.replace("{response}", response), split_answer(response), "text"))
    return branches
