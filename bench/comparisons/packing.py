"""Packed sequences against padded batches: content tokens per second.

    make bench NAME=packing

Both train all parameters on the same rows through `training.trainer`. Padded batches are trained as usual, with a dense
mask; packed sequences as by default, without padding or mask.
The mix of lengths is like the paper's: captions and short questions, each about an image, and long answers.
"""

import io
import json
import random
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, Image, List, Value

from bench.models import save_model
from bench.result import Result, compare_rates
from rlaif.config import TrainingConfig
from scenes.world import render, sample_scene
from training.trainer import build_trainer, training_arguments

# words of an answer, share of rows
MIX = {"caption": ((8, 30), 0.4), "question": ((1, 5), 0.35), "long answer": ((150, 700), 0.25)}
FEATURES = Features(
    {
        "images": List(Image()),
        "messages": List({"role": Value("string"), "content": Value("string")}),
    }
)


@dataclass(frozen=True)
class Load:
    """batch: rows of a padded batch; packed_batch: sequences of a packed one."""

    width: int = 384
    layers: int = 6
    sequence_length: int = 1024
    batch: int = 16
    packed_batch: int = 2
    rows: int = 192


def rows(count: int, rng: random.Random) -> list[dict[str, Any]]:
    generated = []
    for _ in range(count):
        shortest, longest = rng.choices([span for span, _ in MIX.values()], [share for _, share in MIX.values()])[0]
        answer = " ".join(rng.choices(["red", "car", "the", "left", "cup"], k=rng.randint(shortest, longest)))
        messages = [{"role": "user", "content": "Describe."}, {"role": "assistant", "content": answer}]
        generated.append({"images": [render(sample_scene(rng))], "messages": messages})
    return generated


def measure(
    packing: Any, folder: Path, sequence_length: int, batch: int, steps: int = -1, attention: Any = None
) -> dict[str, float]:
    """Figures of one pass over the rows, or of its first `steps`."""
    config = TrainingConfig(
        stage="sft-2",
        model=str(folder / "model"),
        data=[str(folder / "rows.parquet")],
        packing=packing,
        attention=attention,
        sequence_length=sequence_length,
        trainer={
            "per_device_train_batch_size": batch,
            "num_train_epochs": 1,
            "max_steps": steps,
            "logging_strategy": "no",
            "save_strategy": "no",
            "disable_tqdm": True,
            "bf16": torch.cuda.is_available(),
        },
    )
    with redirect_stdout(io.StringIO()):
        trainer = build_trainer(config, training_arguments(config, folder / f"{packing}-{steps}"))
        computed = 0  # tokens of the batches, padding included
        collate = trainer.data_collator

        def counted(rows: list[Any]) -> dict[str, torch.Tensor]:
            nonlocal computed
            batch: dict[str, torch.Tensor] = collate(rows)
            computed += batch["input_ids"].numel()
            return batch

        trainer.data_collator = counted
        trainer.train()
    summary = trainer.state.log_history[-1]
    content, seconds = summary["num_input_tokens_seen"], summary["train_runtime"]
    return {
        "content tokens": content,
        "computed tokens": computed,
        "content share": round(content / computed, 3),
        "seconds": round(seconds, 1),
        "computed tokens / s": round(computed / seconds),
        "content tokens / s": round(content / seconds),
    }


def compare(repeats: int, load: Load | None = None) -> Result:
    """Measure both in turn, and print their figures."""
    load = load or Load()
    measured: dict[str, list[dict[str, float]]] = {"padded": [], "packed": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        Dataset.from_list(rows(load.rows, random.Random(0)), features=FEATURES).to_parquet(folder / "rows.parquet")
        parameters = save_model(folder / "model", load.width, load.layers)
        print(f"{parameters:,} parameters, {load.rows} rows, {torch.get_num_threads()} threads")
        measure("best_fit", folder, load.sequence_length, load.packed_batch, steps=1)  # warm-up
        for _ in range(repeats):
            padded = measure("none", folder, load.sequence_length, load.batch, attention="dense")
            measured["padded"].append(padded)
            measured["packed"].append(measure("best_fit", folder, load.sequence_length, load.packed_batch))
    for variant, figures in measured.items():
        print(f"{variant}: {json.dumps(figures[-1])}")
    ours, peer = ([figures["content tokens / s"] for figures in measured[variant]] for variant in ("packed", "padded"))
    return compare_rates(ours, peer, "content tokens/s")
