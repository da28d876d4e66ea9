"""Seconds of each stage by number of images, and by slices per image.

    make bench-growth
    python -m bench.growth --images 50 100 --sides 84 250

It runs the models and settings of the demo, each stage in its own process, as `make` does. Seconds are those of the
whole process. The least-squares line through them gives the fixed cost of a stage, imports and engine included, and the
cost per image. For slices, the same scenes are scaled to squares of several sizes.
"""

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from bench.result import machine
from model import MiniCPMVProcessor
from rlaif.command import at_least_one, exit_status
from rlaif.config import Config
from rlaif.config.load import load_config
from rlaif.errors import InputError
from rlaif.pipelines.stages import STAGES, run_stages
from scenes.source import scene_rows

CONFIG = "configs/demo.yaml"
MEASURED = STAGES[:3]  # generation, feedback, dpo

Seconds = dict[str, float]  # by stage


def seconds(config: Config, folder: Path) -> Seconds:
    """Seconds of the process of each stage, run one after the other."""
    by_stage = {}
    for stage in MEASURED:
        start = time.perf_counter()
        run_stages([stage], config, folder)
        by_stage[stage] = time.perf_counter() - start
    return by_stage


def of_images(count: int, changes: Sequence[str], folder: Path) -> Seconds:
    """Seconds for this number of embedded scenes."""
    return seconds(load_config(CONFIG, [f"data.train_prompts={count}", "data.test_prompts=0", *changes]), folder)


def of_slices(side: int, count: int, changes: Sequence[str], folder: Path) -> Seconds:
    """Seconds for this number of scenes, scaled to squares of that side."""
    rows: dict[str, list[Any]] = {"image": [], "question": []}
    for scene in scene_rows("train", count, 0):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(scene.png)).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "PNG")
        rows["image"].append(buffer.getvalue())
        rows["question"].append(scene.instruction)
    folder.mkdir()
    pq.write_table(pa.table(rows), folder / "scenes.parquet")
    source = ["data.source=parquet", f"data.path={folder / 'scenes.parquet'}"]
    return seconds(load_config(CONFIG, [*source, *changes]), folder / "run")


def slices(side: int) -> int:
    """Number of slices of a square image, overview included."""
    processor = MiniCPMVProcessor.from_pretrained(load_config(CONFIG).policy.model)
    return len(processor.image_processor.preprocess(Image.new("RGB", (side, side)))["pixel_values"][0])


def table(what: str, measured: dict[int, Seconds]) -> str:
    """Seconds of each stage by the number of `what`, and the line through them, as Markdown."""
    lines = [f"| {what} | {' | '.join(MEASURED)} |", "|---" * (len(MEASURED) + 1) + "|"]
    for size, by_stage in measured.items():
        lines.append(f"| {size} | {' | '.join(f'{by_stage[stage]:.1f} s' for stage in MEASURED)} |")
    if len(measured) > 1:
        fitted = [line(list(measured), [by_stage[stage] for by_stage in measured.values()]) for stage in MEASURED]
        lines.append(f"| line | {' | '.join(f'{fixed:.1f} s + {each:.3f} s each' for fixed, each in fitted)} |")
    return "\n".join(lines)


def line(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Fixed cost and cost per unit, by least squares."""
    each, fixed = np.polyfit(sizes, values, 1)
    return float(fixed), float(each)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--images", type=at_least_one, nargs="+", default=[100, 200, 400, 800])
    sides = [84, 118, 165, 205, 250]
    add("--sides", type=at_least_one, nargs="*", default=sides, help="sides of the squares, in pixels")
    add("--scaled", type=at_least_one, default=100, help="number of scenes, scaled to each side")
    add("--set", nargs="*", default=[], metavar="section.key=value", help="changes to the demo's settings")
    arguments = parser.parse_args(argv)
    return exit_status(lambda: measure(arguments))


def measure(arguments: argparse.Namespace) -> None:
    """Measure and print both tables. Errors: RlaifError: a stage failed, or an input is not allowed."""
    print(machine(), flush=True)
    count, changes, given = arguments.scaled, arguments.set, arguments.sides
    sides = {slices(side): side for side in given}
    if len(sides) < len(given):
        raise InputError(f"got sides {given}, of which some have equal slices; name one for each number of slices")
    os.environ["TQDM_DISABLE"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        by_images = {size: of_images(size, changes, folder / str(size)) for size in sorted(set(arguments.images))}
        print(f"\n{table('images', by_images)}", flush=True)
        by_slices = {key: of_slices(side, count, changes, folder / f"side-{side}") for key, side in sides.items()}
    if by_slices:
        print(f"\n{count} images\n\n{table('slices', by_slices)}")


if __name__ == "__main__":
    sys.exit(main())
