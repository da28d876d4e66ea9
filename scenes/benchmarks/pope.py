"""POPE's files: whether a thing is there, half of the questions about absent things."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from scenes.benchmarks.sampling import existence_question, names_in, sample_scenes, write_image, write_lines
from scenes.world.things import THINGS

SAMPLINGS = ("random", "popular", "adversarial")  # of absent things
POSITIVES = 3  # questions about things of an image, and as many about absent ones
WORLD = 3000  # scenes from which it is known what is frequent in the world, and what occurs together


def write_pope(folder: Path, count: int) -> None:
    objects = {}
    scenes = sample_scenes("pope", lambda scene: len(scene.objects) >= POSITIVES)
    for index, (scene, _) in enumerate(islice(scenes, count)):
        image = f"scene_{index:06d}.png"
        write_image(folder / "images" / image, scene)
        objects[image] = names_in(scene)
    world = [names_in(scene) for scene, _ in islice(sample_scenes("pope world"), WORLD)]
    for sampling in SAMPLINGS:
        write_lines(folder / f"scenes_pope_{sampling}.json", pope_records(sampling, objects, world))


def pope_records(
    sampling: str, objects: Mapping[str, Sequence[str]], world: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """Questions about images, alternately about a present and about an absent thing.

    The absent thing, without repetition, is random, or the most frequent one of the world (popular), or the one that
    most often occurs together with the present thing (adversarial); random if there is no such thing.

    Args:
        objects: image -> the things in it, three or more.
        world: the things of many scenes.
    """
    rng = random.Random(f"pope {sampling}")
    frequency = Counter(name for names in world for name in names)
    records: list[dict[str, Any]] = []
    for image, present in objects.items():
        unused = [name for name in THINGS if name not in present]
        for name in rng.sample(list(present), POSITIVES):
            counts = Counter[str]()
            if sampling == "popular":
                counts = frequency
            elif sampling == "adversarial":
                counts = Counter(other for names in world if name in names for other in names)
            absent = max(unused, key=counts.__getitem__) if any(counts[it] for it in unused) else rng.choice(unused)
            unused.remove(absent)
            for queried, label in ((name, "yes"), (absent, "no")):
                text = existence_question(queried)
                records.append({"question_id": len(records) + 1, "image": image, "text": text, "label": label})
    return records
