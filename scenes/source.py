"""The embedded scenes as a source of prompts."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scenes.language import INSTRUCTIONS
from scenes.world import render_png, sample_scene


@dataclass(frozen=True)
class SceneRow:
    """A rendered scene with an instruction; reference: its truth, JSON-compatible."""

    png: bytes
    instruction: str
    reference: dict[str, Any]


def scene_rows(split: str, count: int, seed: int, first: int = 0) -> Iterator[SceneRow]:
    """`count` scenes of a split ("train", "validation", "test"), starting at number `first`; deterministic for a seed.

    The embedded models were trained on none of them, but for the train scenes of seed 1000, which taught the labeler.
    Errors: ValueError for an unknown split.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"unknown split {split!r} of the embedded scenes; allowed: train, validation, test")
    for index in range(first, first + count):
        rng = random.Random(f"{split}/{seed}/{index}")
        scene = sample_scene(rng)
        yield SceneRow(render_png(scene), rng.choice(INSTRUCTIONS), scene.truth)
