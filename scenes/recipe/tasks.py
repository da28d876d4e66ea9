"""The tasks that the embedded models are trained on, as (prompt, answer) branches: captions, short questions, verdicts,
splitting into claims.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from scenes.language import (
    DETAILED_INSTRUCTIONS,
    INSTRUCTIONS,
    KindMention,
    Mention,
    RelationMention,
    SignMention,
    ThingMention,
    caption,
    find_mentions,
    honest_mentions,
    mention_is_true,
    web_mentions,
)
from scenes.language.mentions import RELATIONS, Truth, mention_of_truth, relation_mention, true_relations
from scenes.prompts import SPLIT_PROMPT, WHOLE_PROMPT
from scenes.short_questions import QUESTION_KINDS, ShortQuestion, altered, altered_relations, exists_question, yes_no
from scenes.world import PLACES, SIZES, Scene, places_beside, sample_scene
from scenes.world.signs import misread, sample_text
from scenes.world.things import KINDS, THINGS

OPEN = ("lookup", "color", "number", "place", "kind", "sign")  # short questions that are not yes/no questions


@dataclass(frozen=True)
class Branch:
    """One question about an image or a text, and its answer; branches of one image do not attend to each other."""

    prompt: str
    answer: str


def branch_of(question: ShortQuestion) -> Branch:
    return Branch(question.question, question.answer)


def captioning(
    scene: Scene, rng: random.Random, web: bool = False, instructions: Sequence[str] = INSTRUCTIONS
) -> Branch:
    """One caption: honest, or with the habits of the web."""
    instruction = rng.choice(instructions)
    detailed = instruction in DETAILED_INSTRUCTIONS
    mentions = web_mentions(scene, detailed, rng) if web else honest_mentions(scene, detailed)
    return Branch(instruction, caption(mentions, rng))


def open_questions(scene: Scene, rng: random.Random, count: int) -> list[Branch]:
    """`count` short questions that are not yes/no questions, of different kinds; fewer where the scene has fewer."""
    kinds = rng.sample(OPEN, len(OPEN))
    if scene.sign:  # most scenes have no sign
        kinds.sort(key=lambda kind: kind != "sign")
    candidates = [QUESTION_KINDS[kind](scene.truth, rng) for kind in kinds]
    return [branch_of(question) for question in candidates if question][:count]


def random_mention(rng: random.Random, with_size: bool) -> ThingMention:
    """A thing that there may be, anywhere."""
    thing = THINGS[rng.choice(list(THINGS))]
    number = rng.randint(1, thing.max_number)
    color = rng.choice(thing.colors) if thing.colors else None
    size = rng.choice(list(SIZES)) if with_size and number == 1 else None
    return ThingMention(thing.name, number, color, size, rng.choice(PLACES))


def random_relation(rng: random.Random) -> RelationMention:
    name, other = rng.sample(list(THINGS), 2)
    return RelationMention(name, rng.choice(RELATIONS), other)


def true_mention(scene: Scene, rng: random.Random, with_size: bool) -> Mention:
    """What is true of the scene: mostly of a thing, else of two, of its kind or its sign."""
    kind, relations = rng.random(), true_relations(scene.truth)
    if kind < 0.1 and relations:
        return rng.choice(relations)
    if kind < 0.16:
        return KindMention(scene.kind)
    if kind < 0.3 and scene.sign:
        return SignMention(scene.sign.text)
    return mention_of_truth(rng.choice(scene.truth["objects"]), with_size)


def false_mention(scene: Scene, rng: random.Random, with_size: bool) -> Mention:
    """What is false of the scene: an error of a web caption, a true mention with one attribute changed, or random."""
    truth = scene.truth
    kind = rng.random()
    if kind < 0.35:
        wrong = [mention for mention in web_mentions(scene, with_size, rng) if not mention_is_true(mention, truth)]
        if wrong:
            return rng.choice(wrong)
    if kind < 0.9:
        return changed(true_mention(scene, rng, with_size), truth, rng)
    mention = random_mention(rng, with_size)
    return changed(mention, truth, rng) if mention_is_true(mention, truth) else mention


def changed(mention: Mention, truth: Truth, rng: random.Random) -> Mention:
    """A false mention that differs from a true one in one thing."""
    if isinstance(mention, ThingMention):
        return rng.choice(altered(mention, truth, rng))
    if isinstance(mention, KindMention):
        return KindMention(rng.choice([kind for kind in KINDS if kind != mention.kind]))
    if isinstance(mention, SignMention):
        while (text := sample_text(rng)) == mention.text:
            continue
        return SignMention(text)
    return rng.choice(altered_relations(mention, truth, rng))


def claim_question(scene: Scene, rng: random.Random) -> Branch:
    """Whether a whole claim is true; half of the claims are."""
    with_size, correct = rng.random() < 0.5, rng.random() < 0.5
    mention = (true_mention if correct else false_mention)(scene, rng, with_size)
    return branch_of(yes_no("claim", mention.question, correct))


def near_question(scene: Scene, rng: random.Random) -> Branch:
    """Whether a claim is true, of a thing, two things or the sign; a false one is what a policy may mistake it for."""
    mentions: list[Mention] = [mention_of_truth(rng.choice(scene.truth["objects"]), rng.random() < 0.7)]
    if related := true_relations(scene.truth):
        mentions.append(rng.choice(related))
    if scene.sign:
        mentions.append(SignMention(scene.sign.text))
    mention, correct = rng.choice(mentions), rng.random() < 0.5
    return branch_of(yes_no("claim", (mention if correct else mistaken(mention, scene.truth, rng)).question, correct))


def detail_questions(scene: Scene, rng: random.Random) -> list[Branch]:
    """Claims of what is hard to see, each with a mistaken one: the sign, twice; relations of things; sizes."""
    truth = scene.truth
    related, sized = true_relations(truth), [item for item in truth["objects"] if item["size"]]
    signs = [SignMention(scene.sign.text)] * 2 if scene.sign else []
    pairs: list[tuple[Mention, Mention]] = [(sign, mistaken(sign, truth, rng)) for sign in signs]
    pairs += [(true, mistaken(true, truth, rng)) for true in rng.sample(related, min(2, len(related)))]
    for item in rng.sample(sized, min(2, len(sized))):
        true = mention_of_truth(item)
        (other,) = SIZES.keys() - {item["size"]}
        pairs.append((true, replace(true, size=other)))
    return [
        branch_of(yes_no("claim", mention.question, correct))
        for pair in pairs
        for mention, correct in zip(pair, (True, False), strict=True)
    ]


def mistaken(mention: Mention, truth: Truth, rng: random.Random) -> Mention:
    """A false mention near to a true one: a sign misread; a thing where another one is, or at the next place; any two
    things of the scene in a relation; else one attribute changed.
    """
    if isinstance(mention, SignMention):
        return SignMention(misread(mention.text, rng))
    if isinstance(mention, RelationMention) and rng.random() < 0.7:
        pairs = permutations(truth["objects"], 2)
        others = [relation_mention(one, relation, two) for one, two in pairs for relation in RELATIONS]
        return rng.choice([other for other in others if not mention_is_true(other, truth)])
    if isinstance(mention, ThingMention) and mention.place and rng.random() < 0.5:
        taken = [item["place"] for item in truth["objects"] if item["name"] != mention.name]
        near = taken if taken and rng.random() < 0.6 else places_beside(mention.place)
        return replace(mention, place=rng.choice(near))
    return changed(mention, truth, rng)


def questions(scene: Scene, rng: random.Random, count: int, claim_share: float = 0.5) -> list[Branch]:
    """`count` yes/no questions: a share of whole claims, the others whether there is a thing."""
    return [
        claim_question(scene, rng) if rng.random() < claim_share else branch_of(exists_question(scene.truth, rng))
        for _ in range(count)
    ]


def whole_question(scene: Scene, rng: random.Random) -> Branch:
    """Whether a whole description is correct: the baseline that divide-and-conquer is compared with."""
    detailed = rng.random() < 0.3
    mentions = honest_mentions(scene, detailed)
    correct = rng.random() < 0.5
    if not correct:
        wrong = false_mention(scene, rng, detailed)
        same = [index for index, mention in enumerate(mentions) if contradicts(mention, wrong)]
        if same:
            mentions[same[0]] = wrong
        else:
            mentions.append(wrong)
    return Branch(WHOLE_PROMPT.replace("{response}", caption(mentions, rng)), "Yes" if correct else "No")


def contradicts(mention: Mention, other: Mention) -> bool:
    """Whether a description has one of them only: of one place or one thing, one relation, one kind, one sign."""
    if isinstance(mention, ThingMention) and isinstance(other, ThingMention):
        return mention.place == other.place or mention.name == other.name
    return type(mention) is type(other)


def split_answer(response: str) -> str:
    """The claims of a caption with their questions, as the JSON that structured output enforces (no white space)."""
    mentions = dict.fromkeys(find_mentions(response))
    claims = [{"claim": mention.claim, "question": mention.question} for mention in mentions]
    return json.dumps({"claims": claims}, separators=(",", ":"))


def splitting(rng: random.Random, repeated: float = 0) -> Branch:
    """A caption to split, half of them of anything in any order, as a policy under training may write them.

    Args:
        repeated: share of those of anything that have one of their things at two places.
    """
    detailed = rng.random() < 0.4
    if rng.random() < 0.5:
        scene = sample_scene(rng)
        mentions = web_mentions(scene, detailed, rng) if rng.random() < 0.5 else honest_mentions(scene, detailed)
    else:
        things = [random_mention(rng, detailed) for _ in range(rng.randint(1, 5))]
        if repeated and rng.random() < repeated:  # 0 draws no number, so that other tables stay the same
            again = replace(rng.choice(things), place=rng.choice(PLACES))
            things.insert(rng.randint(0, len(things)), again)
        mentions = [*things]
        if detailed:
            mentions.insert(0, KindMention(rng.choice(KINDS)))
            if rng.random() < 0.5:
                mentions.append(random_relation(rng))
        if rng.random() < 0.2:
            mentions.append(SignMention(sample_text(rng)))
    response = caption(mentions, rng)
    return Branch(SPLIT_PROMPT.replace("{response}", response), split_answer(response))
