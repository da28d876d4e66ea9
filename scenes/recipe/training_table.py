"""Prints a table of the figures after each training stage, on scenes not used in training.

    python -m scenes.recipe.training_table runs/training/pretrain-1 runs/training/sft-2

The figures of each model, in percent: recall of things without an instruction, as in pre-training; in a detailed
description, false mentions, how many of these follow a habit of the world, and recall of things; correct yes/no answers
about whole claims; signs read without an error. Each has five kinds of pictures: small ones (which need no slices) of
one thing, of one thing in a drawing that no model was trained on, and of any number of things; large ones with their
slices, and the same large ones without (overview only). The last row is the largest distance between a figure of the
column and an end of its 95% confidence interval, in points (bootstrap over questions).
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rlaif.command import at_least_one, exit_status
from scenes.recipe.trained import trained_models


def largest_margin(cells: Iterable[tuple[float, float] | None]) -> str:
    """The largest margin of a column."""
    margins = [cell[1] for cell in cells if cell]
    return f"{max(margins):.0f}" if margins else "-"


def print_table(folders: Sequence[Path], scenes: int, out: Path | None) -> None:
    """Measure the models and print their table. Errors: as `trained_models`, before any is measured."""
    models = trained_models(folders)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    from scenes.recipe.model_figures import PICTURE_KINDS, model_figures  # deferred so that --help stays fast

    table = {}
    for name, model in models.items():
        table[name] = model_figures(model, scenes)
        print(f"{name}: {json.dumps(table[name])}", flush=True)
    figures = list(next(iter(table.values())))
    print(f"\nPercent, of {scenes} pictures each: {' / '.join(PICTURE_KINDS)}\n")
    print(f"| model | {' | '.join(figures)} |")
    print("|---" * (len(figures) + 1) + "|")
    for name, row in table.items():
        cells = (
            " / ".join("-" if cell is None else f"{cell[0]:.0f}" for cell in row[figure].values()) for figure in figures
        )
        print(f"| {name} | {' | '.join(cells)} |")
    margins = (
        " / ".join(largest_margin(row[figure][kind] for row in table.values()) for kind in PICTURE_KINDS)
        for figure in figures
    )
    print(f"| 95% within | {' | '.join(margins)} |")
    if out:
        out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scenes.recipe.training_table", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("models", type=Path, nargs="+", help="folders of training runs or of models, one for each row")
    parser.add_argument("--scenes", type=at_least_one, default=100, help="scenes of each kind of picture")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON")
    arguments = parser.parse_args(argv)
    return exit_status(lambda: print_table(arguments.models, arguments.scenes, arguments.out))


if __name__ == "__main__":
    sys.exit(main())
