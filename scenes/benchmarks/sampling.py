"""What the benchmarks share: their scenes, the names in them, and files."""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scenes.language import ThingMention
from scenes.prompts import VERIFY_PROMPT
from scenes.world import Scene, render_png, sample_scene
from scenes.world.scene import SIGN_SHARE

DESCRIBE = "Describe the image in detail."


def sample_scenes(
    purpose: str, wanted: Callable[[Scene], bool] = lambda scene: True, signs: float = SIGN_SHARE
) -> Iterator[tuple[Scene, random.Random]]:
    """Endless scenes that are wanted, each with a random generator for its questions; the same for a purpose.

    Args:
        signs: share of the scenes with a sign.
    """
    index = 0
    while True:
        rng = random.Random(f"benchmark {purpose}/{index}")
        scene = sample_scene(rng, signs=signs)
        if wanted(scene):
            yield scene, rng
        index += 1


def names_in(scene: Scene) -> list[str]:
    """The things of a scene, in reading order."""
    return [item.name for item in scene.objects]


def existence_question(name: str) -> str:
    return yes_no_prompt(ThingMention(name).question)


def yes_no_prompt(question: str) -> str:
    return VERIFY_PROMPT.replace("{question}", question)


def write_image(path: Path, scene: Scene) -> bytes:
    """Write the scene as PNG; returns the content."""
    content = render_png(scene)
    path.write_bytes(content)
    return content


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
