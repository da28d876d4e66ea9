"""Training tables of the embedded world, for every stage of the paper's training at toy size.

    python -m scenes.recipe.tables --out runs/training/data           (the tables of `reading` with --tables)

| table                | stage            | a row                                                                    |
|----------------------|------------------|--------------------------------------------------------------------------|
| copying.parquet      | language-1,splits| text only: a text to split, in which every claim is copied               |
| language.parquet     | start            | text only: a scene in words and questions about it, or a text to split   |
| first.parquet        | pretrain-1, 2    | an image of one object, small enough for no slices, its honest caption   |
| two, three           | pretrain-3       | an image of up to two or three objects, its honest caption               |
| captions.parquet     | pretrain-3       | an image of any scene or of text, its honest caption or its text         |
| easy-two, easy-three | sft-1            | an image of up to two or three objects, short questions, a short caption |
| text-centred, -placed| sft-1            | mostly a picture of a plain word (centered, anywhere), else easy-three   |
| text.parquet         | sft-1            | the same with texts less and less plain (font, size, color), and numbers |
| recognition.parquet  | sft-1            | an image, short questions, a short caption, or a text to read            |
| instructions.parquet | sft-2            | an image, a detailed description, harder questions; text to split or read|
| web.parquet          | policy           | an image and its web caption                                             |
| reading-centred, ... | reading          | a text to read, from plain words in the center to any text anywhere      |
| verifying.parquet    | verifier         | an image and claims about it to verify, or a text to split               |
| labeling.parquet     | labeler          | the same with more texts to split                                        |
"""

import argparse
import io
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from scenes import rendered_text
from scenes.language import DETAILED_INSTRUCTIONS, caption, mention_of
from scenes.recipe import tasks
from scenes.world import SMALL, Scene, render, sample_scene

if TYPE_CHECKING:
    from datasets import Features

Row = dict[str, Any]
Columns = Literal["captions", "conversations", "raw_captions"]


def features(columns: Columns) -> "Features":
    """The columns of a kind of table, as `datasets` describes them."""
    from datasets import Features, Image, List, Value  # deferred so that --help stays fast

    text = Value("string")
    if columns == "conversations":
        messages = List({"role": text, "content": text})
        return Features({"images": List(Image()), "conversations": List(messages)})
    truth = {"source": text, "reference": text} if columns == "raw_captions" else {}
    return Features({"image": Image(), "caption": text, **truth})


def write_table(file: Path, rows: Sequence[Row], columns: Columns) -> None:
    """Write a table under a temporary name until it is complete."""
    from datasets import Dataset

    temporary = file.with_suffix(".tmp")
    Dataset.from_list(list(rows), features=features(columns)).to_parquet(temporary)
    temporary.replace(file)
    print(f"{file}: {len(rows):,} rows")


def png(picture: Image.Image) -> Row:
    """A picture as a value of an image column."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def conversation_row(pictures: Sequence[Image.Image], branches: Sequence[tasks.Branch], context: str = "") -> Row:
    """One conversation per branch, about the pictures or about the context, a text that precedes each prompt."""
    return {
        "images": [png(picture) for picture in pictures],
        "conversations": [
            [
                {"role": "user", "content": context + branch.prompt},
                {"role": "assistant", "content": branch.answer},
            ]
            for branch in branches
        ],
    }


def honest_caption(scene: Scene, rng: random.Random) -> str:
    with_size = rng.random() < 0.75
    return caption([mention_of(item, with_size) for item in scene.objects], rng)


def in_words(scene: Scene) -> str:
    """The scene in words, in reading order, for a model that does not see images yet."""
    return "; ".join(f"{item.place}: {item.size} {item.color} {item.shape}" for item in scene.objects) + "\n"


def verification(scene: Scene, rng: random.Random, questions: int, claim_share: float) -> list[tasks.Branch]:
    """A lookup, yes/no questions of every kind, and sometimes a whole description."""
    branches = [tasks.lookup(scene, rng), *tasks.questions(scene, rng, questions, claim_share, tasks.BINDING)]
    if rng.random() < 0.3:
        branches.append(tasks.whole_question(scene, rng))
    return branches


def splitting_row(rng: random.Random) -> Row:
    return conversation_row([], tasks.splitting(rng, 1))


def language_row(rng: random.Random) -> Row:
    kind = rng.random()
    if kind < 0.35:
        return splitting_row(rng)
    if kind < 0.45:
        words = rendered_text.sample_words(rng)
        return conversation_row([], [tasks.reading(words, rng)], f'the text "{words}"\n')
    scene = sample_scene(rng)
    caption_branch = tasks.Branch("", honest_caption(scene, rng), "text")
    branches = [caption_branch, *tasks.captioning(scene, rng), tasks.lookup(scene, rng)]
    return conversation_row([], branches + verification(scene, rng, 7, 0.5), in_words(scene))


def caption_row(rng: random.Random, objects: int) -> Row:
    """Training starts with single objects: from crowded pictures a new model learns frequencies, not what it sees."""
    scene = sample_scene(rng, objects, SMALL)
    return {"image": png(render(scene)), "caption": honest_caption(scene, rng)}


def any_row(rng: random.Random) -> Row:
    if rng.random() < 0.2:
        return text_reading(rendered_text.sample_text(rng), rng)
    scene = sample_scene(rng)
    return conversation_row([render(scene)], [tasks.Branch("", honest_caption(scene, rng), "text")])


def text_reading(text: rendered_text.Text, rng: random.Random) -> Row:
    return conversation_row([rendered_text.render_text(text)], [tasks.reading(text.words, rng)])


def reading_row(rng: random.Random, difficulty: tuple[float, float] = (0, 1), centered: bool = False) -> Row:
    """A text to read, with a difficulty from a range.

    Reading is learned in steps: a plain word in the center, then anywhere, then less and less plain. If all come at
    once, the model unlearns it and guesses.
    """
    text = rendered_text.simplify(rendered_text.sample_text(rng), rng.uniform(*difficulty), rng)
    if centered:
        text = replace(text, position=(0.5, 0.5))
    return text_reading(text, rng)


def text_row(rng: random.Random, difficulty: tuple[float, float], centered: bool = False) -> Row:
    """A text to read, or sometimes a scene of up to three objects, so that the model does not forget objects."""
    return easy_row(rng, objects=3) if rng.random() < 0.2 else reading_row(rng, difficulty, centered)


def recognition_row(rng: random.Random) -> Row:
    return reading_row(rng) if rng.random() < 0.2 else recognition(sample_scene(rng), rng)


def easy_row(rng: random.Random, objects: int) -> Row:
    return recognition(sample_scene(rng, objects, SMALL), rng)


def recognition(scene: Scene, rng: random.Random) -> Row:
    branches = [tasks.lookup(scene, rng) for _ in range(2)] + tasks.questions(scene, rng, 3, 0.2, tasks.BINDING)
    return conversation_row([render(scene)], branches + tasks.captioning(scene, rng))


def instruction_row(rng: random.Random) -> Row:
    kind = rng.random()
    if kind < 0.3:
        return splitting_row(rng)
    if kind < 0.4:
        return reading_row(rng)
    scene = sample_scene(rng)
    branches = tasks.captioning(scene, rng, instructions=DETAILED_INSTRUCTIONS) + tasks.captioning(scene, rng)
    return conversation_row([render(scene)], branches + verification(scene, rng, 5, 0.7))


def web_row(rng: random.Random) -> Row:
    scene = sample_scene(rng)
    return conversation_row([render(scene)], tasks.captioning(scene, rng, web=True))


def labeler_row(rng: random.Random, splits: float) -> Row:
    if rng.random() < splits:
        return splitting_row(rng)
    scene = sample_scene(rng)
    return conversation_row([render(scene)], verification(scene, rng, 8, 0.7))


Table = tuple[Callable[[random.Random], Row], Columns, int]  # function of a row, columns, number of rows

READING: dict[str, Table] = {
    "reading-centred": (partial(reading_row, difficulty=(0, 0), centered=True), "conversations", 8000),
    "reading-placed": (partial(reading_row, difficulty=(0, 0)), "conversations", 40000),
    "reading-quarter": (partial(reading_row, difficulty=(1 / 8, 1 / 4)), "conversations", 20000),
    "reading-half": (partial(reading_row, difficulty=(1 / 4, 1 / 2)), "conversations", 20000),
    "reading": (partial(reading_row, difficulty=(1 / 2, 1)), "conversations", 40000),
}
RECIPE: dict[str, Table] = {
    "copying": (splitting_row, "conversations", 16000),
    "language": (language_row, "conversations", 24000),
    "first": (partial(caption_row, objects=1), "captions", 40000),
    "two": (partial(caption_row, objects=2), "captions", 15000),
    "three": (partial(caption_row, objects=3), "captions", 15000),
    "captions": (any_row, "conversations", 30000),
    "easy-two": (partial(easy_row, objects=2), "conversations", 12000),
    "easy-three": (partial(easy_row, objects=3), "conversations", 12000),
    "text-centred": (partial(text_row, difficulty=(0, 0), centered=True), "conversations", 6000),
    "text-placed": (partial(text_row, difficulty=(0, 0)), "conversations", 30000),
    "text": (partial(text_row, difficulty=(0, 1)), "conversations", 30000),
    "recognition": (recognition_row, "conversations", 24000),
    "instructions": (instruction_row, "conversations", 24000),
    "web": (web_row, "conversations", 30000),
    "verifying": (partial(labeler_row, splits=0.35), "conversations", 30000),
    "labeling": (partial(labeler_row, splits=0.6), "conversations", 40000),
}
TABLES = RECIPE | READING
SEED_NAMES = {"verifying": "judging"}  # a row is seeded by the name of its table; this table once had another name


def write(file: Path, name: str, seed: int, rows: int | None) -> None:
    """Write a table of the recipe, unless it exists."""
    row, columns, count = TABLES[name]
    if file.exists():
        print(f"{file}: already there")
        return
    seed_name = SEED_NAMES.get(name, name)
    write_table(file, [row(random.Random(f"{seed_name}/{seed}/{index}")) for index in range(rows or count)], columns)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scenes.recipe.tables", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument(
        "--tables",
        nargs="*",
        choices=TABLES,
        default=list(RECIPE),
        help="tables to write; default: those of `make embedded-models`",
    )
    parser.add_argument("--rows", type=int, help="rows of each table; default: the number that its stage needs")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.tables:
        write(arguments.out / f"{name}.parquet", name, arguments.seed, arguments.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
