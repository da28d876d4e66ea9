"""Captions of the embedded scenes as the web has them, and seed examples of how they are rewritten.

    python -m model.embedded.raw_captions --out runs/captions

| table         | columns                   | a row                                                                    |
|---------------|---------------------------|--------------------------------------------------------------------------|
| raw.parquet   | image, caption, reference | a scene, a noisy caption of it, and its truth in JSON, to measure by     |
| seeds.parquet | images, messages          | a noisy caption to rewrite; question and new caption in JSON; no image   |

Where the noise cannot be mended, a seed's new caption is empty.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List, Value

from model.embedded.language import DETAILED_INSTRUCTIONS, PLAIN_INSTRUCTIONS, caption, mention_of
from model.embedded.noise import as_found
from model.embedded.scenes import Scene, render, sample_scene
from model.embedded.tables import MESSAGES, png

# as in generation/rewrite.txt; a test keeps the two equal, so that the rewriter is asked what it was taught
REWRITE_PROMPT = (
    "A picture on the web has the caption below. Ask a question about the picture and answer it with the caption in "
    "clear sentences: correct the spelling, leave out repetitions and what does not describe the picture, and add "
    "nothing. Leave the answer empty if the caption is cut off or describes nothing.\n\nCaption: {caption}"
)
RAW = Features({"image": Image(), "caption": Value("string"), "reference": Value("string")})
SEEDS = Features({"images": List(Image()), "messages": MESSAGES})


def honest(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """A question about a scene and its right answer."""
    detailed = rng.random() < 0.5
    text = caption([mention_of(item, with_size=detailed) for item in scene.objects], rng)
    return rng.choice(DETAILED_INSTRUCTIONS if detailed else PLAIN_INSTRUCTIONS), text


def raw_row(rng: random.Random) -> dict[str, Any]:
    scene = sample_scene(rng)
    _, text = honest(scene, rng)
    found = as_found(text, rng)
    return {"image": png(render(scene)), "caption": found.text, "reference": json.dumps(scene.truth)}


def seed_row(rng: random.Random) -> dict[str, Any]:
    question, text = honest(sample_scene(rng), rng)
    found = as_found(text, rng)
    answer = {"question": question, "answer": text if found.mendable else ""}
    messages = [
        {"role": "user", "content": REWRITE_PROMPT.replace("{caption}", found.text)},
        {"role": "assistant", "content": json.dumps(answer, separators=(",", ":"))},
    ]
    return {"images": [], "messages": messages}


def main(argv: Sequence[str] | None = None) -> int:
    summary = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m model.embedded.raw_captions", description=summary)
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--raw", type=int, default=2000, help="raw captions")
    parser.add_argument("--seeds", type=int, default=4000, help="seed examples")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, make, features, rows in (
        ("raw", raw_row, RAW, arguments.raw),
        ("seeds", seed_row, SEEDS, arguments.seeds),
    ):
        made = [make(random.Random(f"{name} captions/{arguments.seed}/{index}")) for index in range(rows)]
        Dataset.from_list(made, features=features).to_parquet(arguments.out / f"{name}.parquet")
        print(f"{arguments.out / name}.parquet: {rows:,} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
