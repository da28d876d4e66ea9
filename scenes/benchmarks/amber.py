"""AMBER's files: a description of each image; whether things are there, what they are like, how they are placed."""

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from scenes.benchmarks.sampling import (
    DESCRIBE,
    existence_question,
    names_in,
    sample_scenes,
    write_image,
    write_json,
    yes_no_prompt,
)
from scenes.benchmarks.synonyms import WORDS
from scenes.language import Mention, ThingMention
from scenes.language.mentions import true_relations
from scenes.world import PLACES, SIZES, Scene, above
from scenes.world.habits import COMPANIONS
from scenes.world.things import THINGS

# types of the published files: (of questions with the answer yes, of those with no)
STATE = ("discriminative-attribute-state", "discriminative-attribute-state")
NUMBER = ("discriminative-attribute-number", "discriminative-attribute-number")
RELATION = ("discriminative-relation", "relation")
MAX_NUMBER = 3

Pair = tuple[tuple[str, str], Mention, Mention]  # types, a true and a false mention


def write_amber(folder: Path, count: int) -> None:
    """Each scene suggests a thing that is not there; none has a sign, whose words ("PIZZA") would count as things."""
    (folder / "data" / "query").mkdir(parents=True)
    generative: list[tuple[str, str, dict[str, Any]]] = []  # image, query, annotation
    discriminative: list[tuple[str, str, dict[str, Any]]] = []
    scenes = sample_scenes("amber", lambda scene: bool(suggested_things(scene)), signs=0)
    for index, (scene, rng) in enumerate(islice(scenes, count), start=1):
        image = f"AMBER_{index}.png"
        write_image(folder / "images" / image, scene)
        hallu = suggested_things(scene)
        generative.append((image, DESCRIBE, {"type": "generative", "truth": names_in(scene), "hallu": hallu}))
        for name in hallu:
            annotation = {"type": "discriminative-hallucination", "truth": "no"}
            discriminative.append((image, existence_question(name), annotation))
        for types, true, false in pairs_of(scene, rng):
            for kind, mention, truth in zip(types, (true, false), ("yes", "no"), strict=True):
                discriminative.append((image, yes_no_prompt(mention.question), {"type": kind, "truth": truth}))
    rows = [
        ({"id": index, "image": image, "query": query}, {"id": index, **annotation})
        for index, (image, query, annotation) in enumerate([*generative, *discriminative], start=1)
    ]
    queries = [query for query, _ in rows]
    write_json(folder / "data" / "query" / "query_all.json", queries)
    write_json(folder / "data" / "query" / "query_generative.json", queries[: len(generative)])
    write_json(folder / "data" / "query" / "query_discriminative.json", queries[len(generative) :])
    write_json(folder / "data" / "annotations.json", [annotation for _, annotation in rows])
    write_json(folder / "data" / "relation.json", {name: words[1:] for name, words in WORDS.items()})
    (folder / "data" / "safe_words.txt").write_text("", encoding="utf-8")


def suggested_things(scene: Scene) -> list[str]:
    """What the habits of the world suggest and the scene does not have: companions whose usual place is empty."""
    names, taken = names_in(scene), {item.place for item in scene.objects}
    companions = [COMPANIONS[name] for name in names if name in COMPANIONS]
    return list(dict.fromkeys(name for name, place in companions if name not in names and place not in taken))


def pairs_of(scene: Scene, rng: random.Random) -> Iterator[Pair]:
    """A true and a false mention for each attribute of one thing, its place, and a relation of two things."""
    item = rng.choice(scene.objects)
    thing = ThingMention(item.name, item.number, place=item.place)
    if item.color:
        colored = replace(thing, color=item.color)
        colors = [color for color in THINGS[item.name].colors if color != item.color]
        yield STATE, colored, replace(colored, color=rng.choice(colors))
    if item.size:
        (other_size,) = SIZES.keys() - {item.size}
        sized = replace(thing, size=item.size)
        yield STATE, sized, replace(sized, size=other_size)
    several = [other for other in scene.objects if other.number > 1 and THINGS[other.name].max_number == MAX_NUMBER]
    if several:  # the false number must be one that the thing can have, or the text tells the answer
        counted = rng.choice(several)
        numbers = [number for number in range(2, MAX_NUMBER + 1) if number != counted.number]
        mention = ThingMention(counted.name, counted.number)
        yield NUMBER, mention, replace(mention, number=rng.choice(numbers))
    yield RELATION, thing, replace(thing, place=rng.choice([place for place in PLACES if place != item.place]))
    relations = true_relations(scene.truth)
    if relations:
        relation = rng.choice(relations)
        (other,) = {"next to", above(relation.name, relation.other)} - {relation.relation}
        yield RELATION, relation, replace(relation, relation=other)
