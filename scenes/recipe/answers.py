"""A training table for the embedded labeler: what a policy says about scenes, checked against their truth.

    python -m scenes.recipe.answers runs/answers --out runs/training/data/answers.parquet

reads a run of `make generate` on embedded scenes. A policy errs where it sees badly, which errors drawn at random do
not teach. A row is an image with claims of its answers to verify, no more false than true ones, or a text: one of the
answers to split.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlaif.command import exit_status
from rlaif.errors import InputError
from scenes.language import find_mentions, mention_is_true
from scenes.language.mentions import Truth
from scenes.prompts import SPLIT_PROMPT
from scenes.recipe import tasks
from scenes.recipe.tables import Row, conversation_row, write_table
from scenes.short_questions import yes_no

CLAIMS = 5  # true ones of an image, at most
SPLIT_SHARE = 0.4  # share of the images that have an answer to split


def claims(answers: Sequence[str], truth: Truth, rng: random.Random) -> list[tasks.Branch]:
    """Claims of the answers, each once, with their verdicts: at most CLAIMS true ones, and no more false ones."""
    mentions = list(dict.fromkeys(mention for answer in answers for mention in find_mentions(answer)))
    rng.shuffle(mentions)
    true = [mention for mention in mentions if mention_is_true(mention, truth)][:CLAIMS]
    false = [mention for mention in mentions if not mention_is_true(mention, truth)][: max(1, len(true))]
    return [
        tasks.branch_of(yes_no("claim", mention.question, correct))
        for correct, kept in ((True, true), (False, false))
        for mention in kept
    ]


def rows(run: Path, seed: int) -> Iterator[Row]:
    """The rows of the scenes of a run that have responses, in its order.

    Errors: InputError if a table is missing, or an image is not an embedded scene.
    """
    import pandas as pd  # deferred so that --help stays fast

    for name in ("prompts", "responses"):
        if not (run / f"{name}.parquet").is_file():
            raise InputError(f"{run} has no {name}.parquet; run `make generate` first")
    prompts = pd.read_parquet(run / "prompts.parquet", columns=["prompt_id", "image", "source", "reference"])
    if others := sorted(set(prompts["source"]) - {"scenes"}):
        raise InputError(
            f"{run} has images of {', '.join(others)}, whose truth is unknown; give a run of data.source=scenes"
        )
    texts = pd.read_parquet(run / "responses.parquet", columns=["prompt_id", "text"])
    answers = texts.groupby("prompt_id")["text"].agg(list)
    prompts = prompts[prompts["prompt_id"].isin(answers.index)]
    for name, image, _, reference in prompts.itertuples(index=False, name=None):
        rng = random.Random(f"answers/{seed}/{name}")
        if branches := claims(answers[name], json.loads(reference), rng):
            yield conversation_row([image], branches)
        if rng.random() < SPLIT_SHARE:
            answer = rng.choice(answers[name])
            split = tasks.Branch(SPLIT_PROMPT.replace("{response}", answer), tasks.split_answer(answer))
            yield conversation_row([], [split])


def write(run: Path, out: Path, seed: int) -> None:
    """Write the table. Errors: InputError as `rows`, or if there is nothing to write."""
    table = list(rows(run, seed))
    if not table:
        raise InputError(
            f"the responses of {run} make no claims, and none was drawn to be split; give a run with more responses"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_table(out, table, "conversations")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scenes.recipe.answers", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a run of `make generate` on embedded scenes")
    parser.add_argument("--out", type=Path, required=True, help="file for the table")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    return exit_status(lambda: write(arguments.run, arguments.out, arguments.seed))


if __name__ == "__main__":
    sys.exit(main())
