"""Training tables of the embedded world, for every stage of the paper's training at toy size.

    python -m scenes.recipe.tables --out runs/training/data

| table                | stage            | a row                                                                    |
|----------------------|------------------|--------------------------------------------------------------------------|
| phrases-one, phrases | encoder          | a small image of one thing and a sign, or of more: all true short texts  |
| copying              | language-1       | text only: a text to split, in which every claim is copied               |
| language             | language-2       | text only: a scene in words and questions about it, or a text to split   |
| first                | pretrain-1       | an image of up to four things, small; its honest caption                 |
| small                | pretrain-2       | the same, half of them with a sign                                       |
| captions             | pretrain-3       | an image of any scene, half with a sign; its honest caption              |
| easy                 | sft-1            | a small image of up to two things, short questions, a caption            |
| recognition          | sft-1            | the same about any scene; half of them are large, half have a sign       |
| instructions         | sft-2            | an image, a detailed description, harder questions; or a text to split   |
| web                  | policy           | an image, its web caption and short questions                            |
| labeling             | verifier         | an image, often large, and claims to verify, or a text to split          |
| details              | labeler          | an image and claims about its sign, relations and sizes                  |
"""

import argparse
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow.parquet as pq

from rlaif.command import at_least_one, exit_status
from rlaif.errors import InputError
from rlaif.storage.files import atomic_write
from scenes.language import DETAILED_INSTRUCTIONS, caption, honest_mentions
from scenes.language.mentions import NUMBERS, counted, mention_of_truth
from scenes.recipe import tasks
from scenes.world import CANVASES, LARGE, MAX_OBJECTS, SMALL, Scene, render_png, sample_scene

if TYPE_CHECKING:
    from datasets import Features

Row = dict[str, Any]
Columns = Literal["phrases", "captions", "conversations", "raw_captions"]
OFTEN = 0.5  # share of scenes with a sign in tables that teach reading
# as many scenes that need slices as scenes that do not
EVEN = SMALL | {size: share * sum(SMALL.values()) // sum(LARGE.values()) for size, share in LARGE.items()}


def features(columns: Columns) -> "Features":
    """The columns of a kind of table, as `datasets` describes them."""
    from datasets import Features, Image, List, Value  # deferred so that --help stays fast

    text = Value("string")
    if columns == "conversations":
        messages = List({"role": text, "content": text})
        return Features({"images": List(Image()), "conversations": List(messages)})
    if columns == "phrases":
        return Features({"image": Image(), "texts": List(text)})
    truth = {"source": text, "reference": text} if columns == "raw_captions" else {}
    return Features({"image": Image(), "caption": text, **truth})


def write_table(file: Path, rows: Sequence[Row], columns: Columns) -> None:
    """Write a table, whole or not at all."""
    from datasets import Dataset

    table = Dataset.from_list(list(rows), features=features(columns))
    with atomic_write(file) as temporary:
        table.to_parquet(temporary)
    print(f"{file}: {len(rows):,} rows")


def png(scene: Scene) -> Row:
    """The picture of a scene as a value of an image column."""
    return {"bytes": render_png(scene), "path": None}


def conversation_row(images: Sequence[Row], branches: Sequence[tasks.Branch], context: str = "") -> Row:
    """One conversation per branch, about the encoded images or about the context, a text that precedes each prompt."""
    return {
        "images": list(images),
        "conversations": [
            [
                {"role": "user", "content": context + branch.prompt},
                {"role": "assistant", "content": branch.answer},
            ]
            for branch in branches
        ],
    }


def phrases(scene: Scene) -> list[str]:
    """All short texts that are true of the scene: its kind, words and letters of its sign, what its things are like."""
    texts = [scene.kind, *([scene.sign.text, *sorted(set(scene.sign.text))] if scene.sign else [])]
    for item in scene.objects:
        name = counted(item.name, item.number)
        attributes = [item.color, item.size, NUMBERS[item.number - 2] if item.number > 1 else None]
        texts += [name, f"{name} {item.place}", *(f"{word} {name}" for word in attributes if word)]
    return texts


def phrases_row(rng: random.Random, objects: int = MAX_OBJECTS, signs: float = OFTEN) -> Row:
    scene = sample_scene(rng, objects, SMALL, signs)
    return {"image": png(scene), "texts": phrases(scene)}


def honest_caption(scene: Scene, rng: random.Random) -> str:
    return caption(honest_mentions(scene, detailed=rng.random() < 0.5), rng)


def in_words(scene: Scene) -> str:
    """The scene in words, in reading order, for a model that does not see images yet."""
    mentions = [mention_of_truth(item, with_place=False) for item in scene.truth["objects"]]
    things = [f"{item.place}: {mention.phrase}" for item, mention in zip(scene.objects, mentions, strict=True)]
    return "; ".join([scene.kind, *things, *([f"sign: {scene.sign.text}"] if scene.sign else [])]) + "\n"


def verification(scene: Scene, rng: random.Random, questions: int, claim_share: float) -> list[tasks.Branch]:
    """An open question, yes/no questions, and sometimes a whole description."""
    branches = [*tasks.open_questions(scene, rng, 1), *tasks.questions(scene, rng, questions, claim_share)]
    if rng.random() < 0.3:
        branches.append(tasks.whole_question(scene, rng))
    return branches


def splitting_row(rng: random.Random, repeated: float = 0) -> Row:
    return conversation_row([], [tasks.splitting(rng, repeated)])


def language_row(rng: random.Random) -> Row:
    if rng.random() < 0.3:
        return splitting_row(rng)
    scene = sample_scene(rng)
    branches = [tasks.Branch("", honest_caption(scene, rng)), tasks.captioning(scene, rng)]
    branches += [*tasks.open_questions(scene, rng, 3), *verification(scene, rng, 7, 0.6)]
    return conversation_row([], branches, in_words(scene))


def caption_row(rng: random.Random, canvases: Mapping[tuple[int, int], int] = CANVASES, signs: float = 0) -> Row:
    """An image and its honest caption."""
    scene = sample_scene(rng, MAX_OBJECTS, canvases, signs)
    return {"image": png(scene), "caption": honest_caption(scene, rng)}


def recognition_row(
    rng: random.Random, objects: int = MAX_OBJECTS, canvases: Mapping[tuple[int, int], int] = EVEN
) -> Row:
    scene = sample_scene(rng, objects, canvases, OFTEN)
    branches = [*tasks.open_questions(scene, rng, 3), *tasks.questions(scene, rng, 3, 0.4)]
    return conversation_row([png(scene)], [*branches, tasks.captioning(scene, rng)])


def instruction_row(rng: random.Random) -> Row:
    if rng.random() < 0.25:
        return splitting_row(rng)
    scene = sample_scene(rng, canvases=EVEN, signs=OFTEN)
    branches = [tasks.captioning(scene, rng, instructions=DETAILED_INSTRUCTIONS), tasks.captioning(scene, rng)]
    return conversation_row([png(scene)], branches + verification(scene, rng, 5, 0.8))


def web_row(rng: random.Random) -> Row:
    scene = sample_scene(rng)
    branches = [*tasks.open_questions(scene, rng, 2), *tasks.questions(scene, rng, 1, 0.5)]
    return conversation_row([png(scene)], [tasks.captioning(scene, rng, web=True), *branches])


def labeling_row(rng: random.Random) -> Row:
    if rng.random() < 0.3:
        return splitting_row(rng, repeated=0.4)
    scene = sample_scene(rng, canvases=EVEN, signs=OFTEN)
    branches = [*verification(scene, rng, 4, 0.8), *(tasks.near_question(scene, rng) for _ in range(6))]
    return conversation_row([png(scene)], branches)


def detail_row(rng: random.Random) -> Row:
    scene = sample_scene(rng, canvases=EVEN, signs=1)
    return conversation_row([png(scene)], tasks.detail_questions(scene, rng))


Table = tuple[Callable[[random.Random], Row], Columns, int]  # function of a row, columns, number of rows

TABLES: dict[str, Table] = {
    "phrases-one": (partial(phrases_row, objects=1, signs=1), "phrases", 24000),
    "phrases": (phrases_row, "phrases", 76000),
    "copying": (splitting_row, "conversations", 16000),
    "language": (language_row, "conversations", 32000),
    "first": (partial(caption_row, canvases=SMALL), "captions", 48000),
    "small": (partial(caption_row, canvases=SMALL, signs=OFTEN), "captions", 24000),
    "captions": (partial(caption_row, signs=OFTEN), "captions", 40000),
    "easy": (partial(recognition_row, objects=2, canvases=SMALL), "conversations", 12000),
    "recognition": (recognition_row, "conversations", 90000),
    "instructions": (instruction_row, "conversations", 20000),
    "web": (web_row, "conversations", 64000),
    "labeling": (labeling_row, "conversations", 48000),
    "details": (detail_row, "conversations", 16000),
}


def write(file: Path, name: str, seed: int, rows: int | None) -> None:
    """Write a table of the recipe, unless it exists; rows: None for as many as its stage needs.

    Errors: InputError if there is a table with other rows, judged by their number and the first one.
    """
    row, columns, count = TABLES[name]
    wanted = count if rows is None else rows
    if not file.exists():
        write_table(file, [row(random.Random(f"{name}/{seed}/{index}")) for index in range(wanted)], columns)
        return
    remedy = "delete it to have it written again, or name another folder with --out"
    with pq.ParquetFile(file) as table:
        if (found := table.metadata.num_rows) != wanted:
            raise InputError(f"{file} has {found:,} rows, expected {wanted:,}; {remedy}")
        (first,) = next(table.iter_batches(1)).to_pylist()
    if first != row(random.Random(f"{name}/{seed}/0")):
        raise InputError(f"{file} is of another seed or version, expected the table of seed {seed}; {remedy}")
    print(f"{file}: already there, {wanted:,} rows")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scenes.recipe.tables", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument(
        "--tables",
        nargs="+",
        choices=TABLES,
        default=list(TABLES),
        help="tables to write; default: all",
    )
    parser.add_argument(
        "--rows", type=at_least_one, help="rows of each table; default: the number that its stage needs"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)

    def write_all() -> None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name in arguments.tables:
            write(arguments.out / f"{name}.parquet", name, arguments.seed, arguments.rows)

    return exit_status(write_all)


if __name__ == "__main__":
    sys.exit(main())
