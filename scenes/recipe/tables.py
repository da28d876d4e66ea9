"""Training tables of the embedded world, for every stage of the paper's training at toy size.

    python -m scenes.recipe.tables --out runs/training/data           (those of `reading` only by name, in --tables)

| table                | stage            | a row                                                                    |
|----------------------|------------------|--------------------------------------------------------------------------|
| copying.parquet      | before the first | text alone: a text to split, in which every claim is copied              |
| language.parquet     | before the first | text alone: a scene in words and questions about it, or a text to split  |
| first.parquet        | pretrain-1, 2    | an image of one object, small enough for no slices, its honest caption   |
| two, three           | pretrain-3       | an image of up to two, of three objects                                  |
| captions.parquet     | pretrain-3       | an image of any scene or of text, its honest caption or what it says     |
| easy-two, easy-three | sft-1            | the same images, short questions and answers, a short caption            |
| text-centred, -placed| sft-1            | the same, most of them a picture of a plain word (centred, anywhere)     |
| text.parquet         | sft-1            | the same, texts ever less plain (face, size, colour, ...), numbers too   |
| recognition.parquet  | sft-1            | an image, short questions and answers, a short caption, or a text to read|
| instructions.parquet | sft-2            | an image, a detailed description, harder questions; text to split or read|
| web.parquet          | policy           | an image and its caption as the web writes it                            |
| reading-centred, ... | reading          | a text to read, from plain words in the middle to any text anywhere      |
| judging.parquet      | judge            | an image and claims about it to judge, or a text to split                |
| labeling.parquet     | labeler          | the same, most of them texts to split                                    |
"""

import argparse
import io
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Pictures

from scenes import rendered_text
from scenes.language import DETAILED_INSTRUCTIONS, caption, mention_of
from scenes.recipe import tasks
from scenes.world import SMALL, Scene, render, sample_scene

Row = dict[str, Any]
CAPTIONS = Features({"image": Image(), "caption": Value("string")})
MESSAGES = List({"role": Value("string"), "content": Value("string")})
CONVERSATIONS = Features({"images": List(Image()), "conversations": List(MESSAGES)})


def png(picture: Pictures.Image) -> Row:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def about(pictures: Sequence[Pictures.Image], asked: Sequence[tasks.Branch], before: str = "") -> Row:
    """A conversation for each question, about the pictures or about the text before it."""
    return {
        "images": [png(picture) for picture in pictures],
        "conversations": [
            [
                {"role": "user", "content": before + branch.prompt},
                {"role": "assistant", "content": branch.answer},
            ]
            for branch in asked
        ],
    }


def honest(scene: Scene, rng: random.Random) -> str:
    with_size = rng.random() < 0.75
    return caption([mention_of(item, with_size) for item in scene.objects], rng)


def in_words(scene: Scene) -> str:
    """What stands in the place of a picture for a model that has no eyes yet: what is where, in reading order."""
    return "; ".join(f"{item.place}: {item.size} {item.color} {item.shape}" for item in scene.objects) + "\n"


def judging(scene: Scene, rng: random.Random, questions: int, claim_share: float) -> list[tasks.Branch]:
    """Yes/no questions of every kind, what is where, and now and then a whole description."""
    asked = [tasks.lookup(scene, rng), *tasks.questions(scene, rng, questions, claim_share, tasks.BINDING)]
    if rng.random() < 0.3:
        asked.append(tasks.whole_question(scene, rng))
    return asked


def splitting_row(rng: random.Random) -> Row:
    return about([], tasks.splitting(rng, 1))


def language_row(rng: random.Random) -> Row:
    kind = rng.random()
    if kind < 0.35:
        return splitting_row(rng)
    if kind < 0.45:
        words = rendered_text.sample_words(rng)
        return about([], [rendered_text.reading(words, rng)], f'the text "{words}"\n')
    scene = sample_scene(rng)
    asked = [tasks.Branch("", honest(scene, rng), "text"), *tasks.captioning(scene, rng), tasks.lookup(scene, rng)]
    return about([], asked + judging(scene, rng, 7, 0.5), in_words(scene))


def caption_row(rng: random.Random, objects: int) -> Row:
    """Seeing starts with single objects: from crowded pictures a new model learns what is common, not what is there."""
    scene = sample_scene(rng, objects, SMALL)
    return {"image": png(render(scene)), "caption": honest(scene, rng)}


def any_row(rng: random.Random) -> Row:
    if rng.random() < 0.2:
        return of_text(rendered_text.sample_text(rng), rng)
    scene = sample_scene(rng)
    return about([render(scene)], [tasks.Branch("", honest(scene, rng), "text")])


def of_text(text: rendered_text.Text, rng: random.Random) -> Row:
    return about([rendered_text.render_text(text)], [rendered_text.reading(text.words, rng)])


def reading_row(rng: random.Random, hard: tuple[float, float] = (0, 1), centred: bool = False) -> Row:
    """A text to read, its hardness drawn from a range. Reading comes by steps: a plain word in the middle of a picture,
    then anywhere, then ever less plain; when all comes at once, what was learnt is lost to guessing.
    """
    text = rendered_text.eased(rendered_text.sample_text(rng), rng.uniform(*hard), rng)
    if centred:
        text = replace(text, place=(0.5, 0.5))
    return of_text(text, rng)


def text_row(rng: random.Random, hard: tuple[float, float], centred: bool = False) -> Row:
    """A text to read, or now and then a scene of up to three objects, so that seeing them is not given up."""
    return easy_row(rng, objects=3) if rng.random() < 0.2 else reading_row(rng, hard, centred)


def recognition_row(rng: random.Random) -> Row:
    return reading_row(rng) if rng.random() < 0.2 else recognising(sample_scene(rng), rng)


def easy_row(rng: random.Random, objects: int) -> Row:
    return recognising(sample_scene(rng, objects, SMALL), rng)


def recognising(scene: Scene, rng: random.Random) -> Row:
    asked = [tasks.lookup(scene, rng) for _ in range(2)] + tasks.questions(scene, rng, 3, 0.2, tasks.BINDING)
    return about([render(scene)], asked + tasks.captioning(scene, rng))


def instruction_row(rng: random.Random) -> Row:
    kind = rng.random()
    if kind < 0.3:
        return splitting_row(rng)
    if kind < 0.4:
        return reading_row(rng)
    scene = sample_scene(rng)
    asked = tasks.captioning(scene, rng, instructions=DETAILED_INSTRUCTIONS) + tasks.captioning(scene, rng)
    return about([render(scene)], asked + judging(scene, rng, 5, 0.7))


def web_row(rng: random.Random) -> Row:
    scene = sample_scene(rng)
    return about([render(scene)], tasks.captioning(scene, rng, web=True))


def judging_row(rng: random.Random, splits: float) -> Row:
    if rng.random() < splits:
        return splitting_row(rng)
    scene = sample_scene(rng)
    return about([render(scene)], judging(scene, rng, 8, 0.7))


Table = tuple[Callable[[random.Random], Row], Features, int]  # what makes a row, its columns, how many rows

READING: dict[str, Table] = {
    "reading-centred": (partial(reading_row, hard=(0, 0), centred=True), CONVERSATIONS, 8000),
    "reading-placed": (partial(reading_row, hard=(0, 0)), CONVERSATIONS, 40000),
    "reading-quarter": (partial(reading_row, hard=(1 / 8, 1 / 4)), CONVERSATIONS, 20000),
    "reading-half": (partial(reading_row, hard=(1 / 4, 1 / 2)), CONVERSATIONS, 20000),
    "reading": (partial(reading_row, hard=(1 / 2, 1)), CONVERSATIONS, 40000),
}
RECIPE: dict[str, Table] = {
    "copying": (splitting_row, CONVERSATIONS, 16000),
    "language": (language_row, CONVERSATIONS, 24000),
    "first": (partial(caption_row, objects=1), CAPTIONS, 40000),
    "two": (partial(caption_row, objects=2), CAPTIONS, 15000),
    "three": (partial(caption_row, objects=3), CAPTIONS, 15000),
    "captions": (any_row, CONVERSATIONS, 30000),
    "easy-two": (partial(easy_row, objects=2), CONVERSATIONS, 12000),
    "easy-three": (partial(easy_row, objects=3), CONVERSATIONS, 12000),
    "text-centred": (partial(text_row, hard=(0, 0), centred=True), CONVERSATIONS, 6000),
    "text-placed": (partial(text_row, hard=(0, 0)), CONVERSATIONS, 30000),
    "text": (partial(text_row, hard=(0, 1)), CONVERSATIONS, 30000),
    "recognition": (recognition_row, CONVERSATIONS, 24000),
    "instructions": (instruction_row, CONVERSATIONS, 24000),
    "web": (web_row, CONVERSATIONS, 30000),
    "judging": (partial(judging_row, splits=0.35), CONVERSATIONS, 30000),
    "labeling": (partial(judging_row, splits=0.6), CONVERSATIONS, 40000),
}
TABLES = RECIPE | READING


def write(file: Path, name: str, seed: int, rows: int | None) -> None:
    """The table, unless it is there: a file is whole, as it gets its name last."""
    make, features, count = TABLES[name]
    if file.exists():
        print(f"{file}: already there")
        return
    made = [make(random.Random(f"{name}/{seed}/{index}")) for index in range(rows or count)]
    temporary = file.with_suffix(".tmp")
    Dataset.from_list(made, features=features).to_parquet(temporary)
    temporary.replace(file)
    print(f"{file}: {len(made):,} rows")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scenes.recipe.tables", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument(
        "--tables", nargs="*", choices=TABLES, default=list(RECIPE), help="default: those of `make embedded-models`"
    )
    parser.add_argument("--rows", type=int, help="rows of each table; default: as many as its stage needs")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.tables:
        write(arguments.out / f"{name}.parquet", name, arguments.seed, arguments.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
