"""Captions of the embedded scenes as the web has them, and seed examples of how they are rewritten.

    python -m scenes.recipe.raw_captions --out runs/captions

| table         | columns                   | a row                                                                    |
|---------------|---------------------------|--------------------------------------------------------------------------|
| raw.parquet   | image, caption, reference | a scene, a noisy caption of it, and its truth in JSON, to measure by     |
| seeds.parquet | images, conversations     | four seed examples: a noisy caption to rewrite, without its image, and   |
|               |                           | in JSON a question with the new caption, empty where none can be had     |
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, Value

from scenes.language import caption, find_mentions, mention_of
from scenes.noise import as_found
from scenes.recipe.tables import CONVERSATIONS, png
from scenes.world import Scene, render, sample_scene

# as in generation/rewrite.txt; a test keeps the two equal, so that the rewriter is asked what it was taught
REWRITE_PROMPT = (
    "A picture on the web has the caption below. Ask a question about the picture and answer it with the caption in "
    "clear sentences: correct the spelling, leave out repetitions and what does not describe the picture, and add "
    "nothing. Leave the answer empty if the caption is cut off or describes nothing.\n\nCaption: {caption}"
)
RAW = Features({"image": Image(), "caption": Value("string"), "reference": Value("string")})
SEEDS_A_ROW = 4  # they share the request, which is then read once


def honest(rng: random.Random) -> tuple[Scene, str]:
    scene = sample_scene(rng)
    with_size = rng.random() < 0.5
    return scene, caption([mention_of(item, with_size) for item in scene.objects], rng)


def question_to(answer: str) -> str:
    """What a caption would be the answer to."""
    if any(mention.size for mention in find_mentions(answer)):
        return "What does the image show, in detail?"
    if answer.startswith("I can see"):
        return "What do you see in the picture?"
    return "What is in this image?" if answer.startswith("There is") else "Which objects can you see?"


def raw_row(rng: random.Random) -> dict[str, Any]:
    scene, text = honest(rng)
    found = as_found(text, rng)
    return {"image": png(render(scene)), "caption": found.text, "reference": json.dumps(scene.truth)}


def seed_example(rng: random.Random) -> list[dict[str, str]]:
    _, text = honest(rng)
    found = as_found(text, rng)
    answer = text if found.mendable else ""
    pair = {"question": question_to(answer), "answer": answer}
    return [
        {"role": "user", "content": REWRITE_PROMPT.replace("{caption}", found.text)},
        {"role": "assistant", "content": json.dumps(pair, separators=(",", ":"))},
    ]


def seed_row(rng: random.Random) -> dict[str, Any]:
    return {"images": [], "conversations": [seed_example(rng) for _ in range(SEEDS_A_ROW)]}


def main(argv: Sequence[str] | None = None) -> int:
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m scenes.recipe.raw_captions", description=summary)
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--raw", type=int, default=2000, help="raw captions")
    parser.add_argument("--seeds", type=int, default=16000, help="seed examples, a multiple of four")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, make, features, rows in (
        ("raw", raw_row, RAW, arguments.raw),
        ("seeds", seed_row, CONVERSATIONS, arguments.seeds // SEEDS_A_ROW),
    ):
        made = [make(random.Random(f"{name} captions/{arguments.seed}/{index}")) for index in range(rows)]
        Dataset.from_list(made, features=features).to_parquet(arguments.out / f"{name}.parquet")
        print(f"{arguments.out / name}.parquet: {rows:,} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
