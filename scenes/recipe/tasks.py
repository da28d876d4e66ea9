"""What the embedded models are taught, as (prompt, answer) branches: captions, yes/no questions, splitting into claims.

The prompts are those of `feedback/prompts`; a test keeps the two equal, so that the labeler is asked what it was
taught.
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
from scenes.world import COLORS, PLACES, SHAPES, SIZES, Scene, SceneObject, sample_scene

SPLIT_PROMPT = "Split the text into atomic claims, each with a yes/no question. Leave out opinions.\n\nText: {response}"
VERIFY_PROMPT = "{question} Answer yes or no."
EASY = ("color", "shape", "place", "color shape")
BINDING = (*EASY, "color place", "shape place")  # what is where: the steps from an attribute to a whole claim
WHOLE_PROMPT = "Is this description correct? {response} Answer yes or no."


@dataclass(frozen=True)
class Branch:
    """One question and its answer about an image (or about a text); branches of one image never see each other.

    kind: "text", "lookup" or "verdict". A loss is the mean within a kind, so that short answers count beside long ones.
    """

    prompt: str
    answer: str
    kind: str


def captioning(
    scene: Scene, rng: random.Random, web: bool = False, instructions: Sequence[str] = INSTRUCTIONS
) -> list[Branch]:
    """One caption branch: honest, or as the web would write it."""
    instruction = rng.choice(instructions)
    mentions = web_mentions(scene, instruction, rng) if web else honest_mentions(scene, instruction)
    return [Branch(instruction, caption(mentions, rng), "text")]


def verdict(question: str, truth: bool) -> Branch:
    return Branch(VERIFY_PROMPT.replace("{question}", question), "Yes" if truth else "No", "verdict")


def lookup(scene: Scene, rng: random.Random) -> Branch:
    """What is in a place: mostly one with an object. Whoever can answer this is near to verdicts on whole claims."""
    place = rng.choice(scene.objects).place if rng.random() < 0.75 else rng.choice(PLACES)
    found = [replace(mention_of(item, with_size=True), place=None) for item in scene.objects if item.place == place]
    return Branch(f"What is {place_phrase(place)}?", found[0].phrase if found else "nothing", "lookup")


def random_mention(rng: random.Random, with_size: bool) -> Mention:
    return Mention(
        rng.choice(list(COLORS)), rng.choice(SHAPES), rng.choice(list(SIZES)) if with_size else None, rng.choice(PLACES)
    )


def false_mention(scene: Scene, rng: random.Random, with_size: bool) -> Mention:
    """A mention that is not true of the scene: what a web caption gets wrong, a true one with one attribute changed
    (most often size and shape, the hardest to see), or anything.
    """
    truth = scene.truth["objects"]
    kinds: dict[str, Sequence[str]] = {"color": list(COLORS), "shape": SHAPES, "place": PLACES, "size": list(SIZES)}
    instruction = rng.choice(DETAILED_INSTRUCTIONS if with_size else PLAIN_INSTRUCTIONS)
    while True:
        way = rng.random()
        if way < 0.4:
            mention = rng.choice(web_mentions(scene, instruction, rng))
        elif way < 0.85:
            attribute = rng.choice(["color", "shape", "shape", "place", *(["size"] * 3 if with_size else [])])
            changed = {attribute: rng.choice(kinds[attribute])}
            mention = replace(mention_of(rng.choice(scene.objects), with_size), **changed)
        else:
            mention = random_mention(rng, with_size)
        if not mention_is_true(mention, truth):
            return mention


def claim_question(scene: Scene, rng: random.Random) -> Branch:
    """A whole claim, true or false with equal chance."""
    with_size = rng.random() < 0.5
    truth = rng.random() < 0.5
    mention = mention_of(rng.choice(scene.objects), with_size) if truth else false_mention(scene, rng, with_size)
    return verdict(question_of(mention), truth)


def easy_question(scene: Scene, rng: random.Random, kinds: Sequence[str] = EASY) -> Branch:
    """About an attribute or two of an object, true or false with about equal chance."""
    items: Sequence[SceneObject] = scene.objects
    kind = rng.choice(kinds)
    item = rng.choice(items)
    color, shape, place = item.color, item.shape, item.place
    if rng.random() < 0.5:
        color, shape, place = rng.choice(list(COLORS)), rng.choice(SHAPES), rng.choice(PLACES)
        if kind == "color shape" and rng.random() < 0.5:
            color = item.color
        if kind.endswith(" place"):
            other = rng.choice(items) if rng.random() < 0.5 else None  # its attributes, but in this place
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
    """`count` yes/no questions, a share of them whole claims, the others easy ones of these kinds."""
    return [
        claim_question(scene, rng) if rng.random() < claim_share else easy_question(scene, rng, kinds)
        for _ in range(count)
    ]


def whole_question(scene: Scene, rng: random.Random) -> Branch:
    """Whether a whole description is right: the question that divide-and-conquer is measured against."""
    instruction = rng.choice(INSTRUCTIONS)
    mentions = honest_mentions(scene, instruction)
    if rng.random() < 0.5:
        wrong = false_mention(scene, rng, instruction in DETAILED_INSTRUCTIONS)
        kept = [mention for mention in mentions if mention.place != wrong.place]
        mentions = sorted([*kept, wrong], key=lambda mention: PLACES.index(mention.place or ""))
    truth = all(mention_is_true(mention, scene.truth["objects"]) for mention in mentions)
    return Branch(WHOLE_PROMPT.replace("{response}", caption(mentions, rng)), "Yes" if truth else "No", "verdict")


def split_answer(response: str) -> str:
    """The claims of a caption of this world with their questions, in the JSON form that structured output enforces
    (no white space).
    """
    claims = [{"claim": claim_of(mention), "question": question_of(mention)} for mention in find_mentions(response)]
    return json.dumps({"claims": claims}, separators=(",", ":"))


def splitting(rng: random.Random, count: int) -> list[Branch]:
    """Captions of any objects in any order (a policy under training writes such), to be split."""
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
