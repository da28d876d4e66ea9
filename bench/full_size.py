"""Training at full size: tokens per second, memory, and the share of the peak matmul rate.

    make bench-full-size                             # on a GPU: the 8.5B model of version 2.5, random weights
    python -m bench.full_size --only dpo-lora sft-2  # a selection

Without a GPU it runs with a model of a few million parameters, as a test; those figures mean little. It measures DPO
with LoRA and full fine-tuning, stock TRL against ours; a step of pre-training 3; a step of SFT on packed sequences. All
use gradient checkpointing and weights in bfloat16. The peak rate is that of one large bfloat16 matrix product on the
same machine; recomputation by checkpointing counts as work. A measurement that does not fit into memory is reported,
and the others continue.
"""

import argparse
import io
import random
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from bench.comparisons import dpo
from bench.comparisons.packing import FEATURES
from bench.isolated import run_isolated
from bench.meter import Meter, matrix_rate, peak
from bench.models import picture, save_full_size
from bench.result import machine
from rlaif.config import TrainingConfig
from training.packing import content_tokens
from training.trainer import build_trainer, training_arguments


@dataclass(frozen=True)
class Size:
    """pairs: data and model of DPO; sequence: tokens of a packed sequence; batch: sequences per step; steps: per stage,
    the first one untimed; side: pixels of the images of a stage.
    """

    pairs: dpo.Load
    sequence: int
    batch: int
    steps: int
    side: int


FULL = Size(dpo.Load(side=1344, steps=6, dtype="bfloat16", checkpointing=True), 4096, 2, 6, side=896)
SMALL = Size(
    dpo.Load(300, 5, 8, width=128, layers=1, resolution=84, queries=16, steps=2, dtype="bfloat16", checkpointing=True),
    sequence=512,
    batch=1,
    steps=2,
    side=170,
)
NAMES = ("dpo-lora", "dpo-full", "pretrain-3", "sft-2")
Row = tuple[str, float, float, float]  # name, tokens per second, MiB, operations per second


def rows(size: Size) -> list[dict[str, Any]]:
    """Rows of a training table: images with answers of 20 to 300 words, a few more than the steps need."""
    rng = random.Random(0)
    generated = []
    for _ in range(size.steps * size.batch * max(size.sequence // 256, 1)):
        answer = " ".join(rng.choices(["red", "star", "the", "left", "circle"], k=rng.randint(20, 300)))
        messages = [{"role": "user", "content": "Describe."}, {"role": "assistant", "content": answer}]
        generated.append({"images": [{"bytes": picture(rng, size.side, grain=32), "path": None}], "messages": messages})
    return generated


def train_stage(stage: Any, folder: Path, size: Size) -> Row:
    """A few packed steps of a training stage; call it in a new process."""
    config = TrainingConfig(
        stage=stage,
        model=str(folder / "model"),
        data=[str(folder / "rows.parquet")],
        packing="best_fit",
        sequence_length=size.sequence,
        dtype="bfloat16",
        trainer={
            "per_device_train_batch_size": size.batch,
            "max_steps": size.steps,
            "gradient_checkpointing": True,
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
        },
    )
    with redirect_stdout(io.StringIO()):
        trainer = build_trainer(config, training_arguments(config, folder / str(stage)))
        meter = Meter(trainer, tokens=lambda batch: int(content_tokens(batch)))
        trainer.train()
    rate = meter.steps / meter.seconds
    return stage, meter.tokens * rate, peak(), meter.operations * rate


def train_pairs(variant: str, method: str, folder: Path, size: Size) -> Row:
    run = dpo.train(variant, folder, size.pairs, method)
    return f"dpo-{method}, {'stock TRL' if variant == 'stock' else 'ours'}", run.tokens, run.peak, run.operations


def measured(name: str, folder: Path, size: Size) -> list[Row | str]:
    """Rows of a name in NAMES; a sentence instead of a row that does not fit into memory."""
    works: list[tuple[Any, ...]] = [(train_stage, name)]
    if name.startswith("dpo-"):
        works = [(train_pairs, variant, name.removeprefix("dpo-")) for variant in ("stock", dpo.OURS)]
    rows: list[Row | str] = []
    for work, *parameters in works:
        try:
            rows.append(run_isolated(work, *parameters, folder, size))
        except torch.OutOfMemoryError as error:
            rows.append(f"{name}, {parameters[0]}: does not fit into memory ({str(error).splitlines()[0]})")
    return rows


def table(rows: Sequence[Row | str], rate: float) -> str:
    """Rows as a Markdown table. rate: peak operations per second."""
    lines = ["| | tokens/s | peak MiB | share of peak rate |", "|---|---|---|---|"]
    lines += [
        f"| {row[0]} | {row[1]:,.0f} | {row[2]:,.0f} | {row[3] / rate:.1%} |"
        for row in rows
        if not isinstance(row, str)
    ]
    return "\n".join([*lines, *(row for row in rows if isinstance(row, str))])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.full_size", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    names = parser.parse_args(argv).only
    on_gpu = torch.cuda.is_available()
    size = FULL if on_gpu else SMALL
    rate = run_isolated(matrix_rate)
    print(f"{machine()}; one large product in bfloat16: {rate / 1e12:.3g} TFLOP/s", flush=True)
    measurements: list[Row | str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if on_gpu:
            parameters = run_isolated(save_full_size, folder / "model")
        else:
            parameters = dpo.save(size.pairs, folder / "model")
            print("no GPU: running with a small model, as a test")
        print(f"{parameters:,} parameters", flush=True)
        Dataset.from_list(rows(size), features=FEATURES).to_parquet(folder / "rows.parquet")
        for name in names:
            measurements += measured(name, folder, size)
            print(f"\n{table(measurements, rate)}", flush=True)


if __name__ == "__main__":
    main()
