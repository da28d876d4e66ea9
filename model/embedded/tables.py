"""Training tables of the embedded world, for every stage of the paper's training at toy size.

    python -m model.embedded.tables --out runs/training/data

| table                  | stage              | a row                                                            |
|------------------------|--------------------|------------------------------------------------------------------|
| language.parquet       | before the first   | text alone: a question about a list of objects, and its answer   |
| captions.parquet       | pretrain-1, 2, 3   | an image and its honest caption                                  |
| ocr.parquet            | pretrain-3         | an image of rendered text, and what it says                      |
| recognition.parquet    | sft-1              | an image, a short question, a short answer                       |
| instructions.parquet   | sft-2              | an image and a detailed description, or a text to split          |

and random/, a model that knows nothing yet; `language` makes of it what pre-training starts from.
"""

import argparse
import io
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Pictures
from transformers import set_seed

from model import MiniCPMVForConditionalGeneration
from model.embedded import tasks
from model.embedded.language import DETAILED_INSTRUCTIONS, caption, mention_of
from model.embedded.ocr import INSTRUCTIONS as READ
from model.embedded.ocr import render_text, sample_text
from model.embedded.scenes import Scene, render, sample_scene
from model.embedded.train import build_config, new_processor, save, start_with_places

Row = dict[str, Any]
CAPTIONS = Features({"image": Image(), "caption": Value("string")})
CONVERSATIONS = Features(
    {"images": List(Image()), "messages": List({"role": Value("string"), "content": Value("string")})}
)


def png(picture: Pictures.Image) -> Row:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def about(pictures: Sequence[Pictures.Image], branches: Sequence[tasks.Branch]) -> Row:
    """One conversation about the pictures, a turn for each branch."""
    messages = []
    for branch in branches:
        messages.append({"role": "user", "content": branch.prompt})
        messages.append({"role": "assistant", "content": branch.answer})
    return {"images": [png(picture) for picture in pictures], "messages": messages}


def honest(scene: Scene, rng: random.Random) -> str:
    with_size = rng.random() < 0.75
    return caption([mention_of(item, with_size) for item in scene.objects], rng)


def language_row(rng: random.Random) -> Row:
    return about([], tasks.splitting(rng, 1))


def caption_row(rng: random.Random) -> Row:
    scene = sample_scene(rng)
    return {"image": png(render(scene)), "caption": honest(scene, rng)}


def ocr_row(rng: random.Random) -> Row:
    text = sample_text(rng)
    return about([render_text(text)], [tasks.Branch(rng.choice(READ), text.words, "text")])


def recognition_row(rng: random.Random) -> Row:
    scene = sample_scene(rng)
    asked = [tasks.lookup(scene, rng), *tasks.questions(scene, rng, 3, 0.3), *tasks.captioning(scene, rng)]
    rng.shuffle(asked)
    return about([render(scene)], asked)


def instruction_row(rng: random.Random) -> Row:
    if rng.random() < 0.3:
        return language_row(rng)
    scene = sample_scene(rng)
    return about([render(scene)], tasks.captioning(scene, rng, instructions=DETAILED_INSTRUCTIONS))


TABLES: dict[str, tuple[Callable[[random.Random], Row], Features]] = {
    "language": (language_row, CONVERSATIONS),
    "captions": (caption_row, CAPTIONS),
    "ocr": (ocr_row, CONVERSATIONS),
    "recognition": (recognition_row, CONVERSATIONS),
    "instructions": (instruction_row, CONVERSATIONS),
}


def write(folder: Path, name: str, count: int, seed: int) -> None:
    make, features = TABLES[name]
    rows = [make(random.Random(f"{name}/{seed}/{index}")) for index in range(count)]
    Dataset.from_list(rows, features=features).to_parquet(folder / f"{name}.parquet")
    print(f"{folder / name}.parquet: {count:,} rows")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m model.embedded.tables", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--rows", type=int, default=20000, help="rows of each table")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        write(arguments.out, name, arguments.rows, arguments.seed)
    set_seed(arguments.seed)
    processor = new_processor(arguments.seed)
    model = MiniCPMVForConditionalGeneration(build_config(processor.tokenizer))
    start_with_places(model)
    save(model, processor, arguments.out / "random")
    print(f"{arguments.out}/random: {sum(value.numel() for value in model.parameters()):,} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
