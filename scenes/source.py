"""The embedded scenes as a source of prompts."""

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scenes.language import INSTRUCTIONS
from scenes.world import render, sample_scene


@dataclass(frozen=True)
class SceneRow:
    png: bytes
    instruction: str
    reference: dict[str, Any]


def scene_rows(split: str, count: int, seed: int, first: int = 0) -> Iterator[SceneRow]:
    """`count` scenes of a split ("train", "validation", "test") from the `first` on, the same ones for the same seed;
    the models' own training uses none of them.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split {split!r} of the embedded scenes; allowed: train, validation, test")
    for index in range(first, first + count):
        rng = random.Random(f"{split}/{seed}/{index}")
        scene = sample_scene(rng)
        buffer = io.BytesIO()
        render(scene).save(buffer, format="PNG")
        yield SceneRow(buffer.getvalue(), rng.choice(INSTRUCTIONS), scene.truth)
