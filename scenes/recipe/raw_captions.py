"""Noisy web captions of the embedded scenes, and seed examples of how to rewrite them.

    python -m scenes.recipe.raw_captions --out runs/captions

| table         | columns                 | a row                                                                      |
|---------------|-------------------------|----------------------------------------------------------------------------|
| raw.parquet   | image, caption, source, | a scene, a noisy caption, and for evaluation its source ("scenes") and     |
|               | reference               | its truth as JSON                                                          |
| seeds.parquet | images, conversations   | four seed examples: a noisy caption to rewrite, without its image, and as  |
|               |                         | JSON a question with the new caption, empty if it cannot be recovered      |
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlaif.command import at_least_one
from scenes.language import ThingMention, caption, find_mentions
from scenes.language.captions import arrange
from scenes.language.mentions import mention_of_truth
from scenes.noise import add_noise
from scenes.prompts import REWRITE_PROMPT
from scenes.recipe.tables import Columns, png, write_table
from scenes.world import Scene, sample_scene

SEEDS_PER_ROW = 4  # they share their prefix, which is then computed once


def captioned_scene(rng: random.Random) -> tuple[Scene, str]:
    """A scene and its honest caption, which says each thing and the sign once."""
    scene = sample_scene(rng)
    with_size = rng.random() < 0.5
    things = [mention_of_truth(item, with_size) for item in scene.truth["objects"]]
    return scene, caption(arrange(scene, things, detailed=False), rng)


def question_to(answer: str) -> str:
    """A question that the caption answers."""
    if any(isinstance(mention, ThingMention) and mention.size for mention in find_mentions(answer)):
        return "What does the image show, in detail?"
    if answer.startswith("I can see"):
        return "What do you see in the picture?"
    if answer.startswith(("There is", "There are")):
        return "What is in this image?"
    return "Which objects can you see?"


def raw_row(rng: random.Random) -> dict[str, Any]:
    scene, text = captioned_scene(rng)
    noisy = add_noise(text, rng)
    truth = {"source": "scenes", "reference": json.dumps(scene.truth)}
    return {"image": png(scene), "caption": noisy.text, **truth}


def seed_example(rng: random.Random) -> list[dict[str, str]]:
    _, text = captioned_scene(rng)
    noisy = add_noise(text, rng)
    answer = text if noisy.recoverable else ""
    pair = {"question": question_to(answer), "answer": answer}
    return [
        {"role": "user", "content": REWRITE_PROMPT.replace("{caption}", noisy.text)},
        {"role": "assistant", "content": json.dumps(pair, separators=(",", ":"))},
    ]


def seed_row(rng: random.Random) -> dict[str, Any]:
    return {"images": [], "conversations": [seed_example(rng) for _ in range(SEEDS_PER_ROW)]}


def main(argv: Sequence[str] | None = None) -> int:
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m scenes.recipe.raw_captions", description=summary)
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--raw", type=at_least_one, default=2000, help="raw captions")
    parser.add_argument("--seeds", type=at_least_one, default=16000, help="seed examples, a multiple of four")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    if arguments.seeds % SEEDS_PER_ROW:
        parser.error(f"argument --seeds: {arguments.seeds} is not a multiple of {SEEDS_PER_ROW}, which share a row")
    arguments.out.mkdir(parents=True, exist_ok=True)
    tables: list[tuple[str, Callable[[random.Random], dict[str, Any]], Columns, int]] = [
        ("raw", raw_row, "raw_captions", arguments.raw),
        ("seeds", seed_row, "conversations", arguments.seeds // SEEDS_PER_ROW),
    ]
    for name, row, columns, count in tables:
        rows = [row(random.Random(f"{name} captions/{arguments.seed}/{index}")) for index in range(count)]
        write_table(arguments.out / f"{name}.parquet", rows, columns)
    return 0


if __name__ == "__main__":
    sys.exit(main())
