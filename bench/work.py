"""The work that is measured against the machine's limit: requests to an engine, steps of a training stage."""

import io
import random
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from bench.comparisons.claims import QUESTIONS
from bench.comparisons.packing import FEATURES
from bench.limits.meter import UNTIMED, Meter
from bench.limits.useful import Counts, batch_counts
from bench.models import picture
from rlaif.config import TrainingConfig
from rlaif.inference.engine import Request
from training.trainer import build_trainer, training_arguments


def verifying(images: Iterable[bytes]) -> list[Request]:
    """60 questions an image, answered by the probabilities of yes and no."""
    texts = [f"{question} Answer yes or no." for question in QUESTIONS]
    return [Request(text, image, max_tokens=1, first_words=("yes", "no")) for image in images for text in texts]


def sampling(images: Iterable[bytes], answers: int, tokens: int) -> list[Request]:
    """Several answers an image, of at most so many tokens."""
    options: dict[str, Any] = {"n": answers, "seed": 0, "temperature": 1.0, "max_tokens": tokens}
    return [Request("Describe the picture in detail.", image, **options) for image in images]


def write_rows(count: int, side: int, file: Path) -> None:
    """A training table: images of `side` pixels with answers of 20 to 300 words."""
    rng = random.Random(0)
    rows = []
    for _ in range(count):
        answer = " ".join(rng.choices(["red", "car", "the", "left", "cup"], k=rng.randint(20, 300)))
        messages = [{"role": "user", "content": "Describe."}, {"role": "assistant", "content": answer}]
        rows.append({"images": [{"bytes": picture(rng, side, grain=32), "path": None}], "messages": messages})
    Dataset.from_list(rows, features=FEATURES).to_parquet(file)


@dataclass(frozen=True)
class Packed:
    """Packed steps of a training stage. sequence: tokens of a sequence; batch: sequences a step."""

    sequence: int
    batch: int
    steps: int
    dtype: str = "float32"
    checkpointing: bool = False


def train_stage(stage: Any, model: Path, rows: Path, out: Path, packed: Packed) -> tuple[Meter, list[Counts]]:
    """Train a few steps; what they took, and what passed the model in each."""
    config = TrainingConfig(
        stage=stage,
        model=str(model),
        data=[str(rows)],
        packing="best_fit",
        sequence_length=packed.sequence,
        dtype=packed.dtype,
        trainer={
            "per_device_train_batch_size": packed.batch,
            "max_steps": packed.steps,
            "gradient_checkpointing": packed.checkpointing,
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "bf16": False,  # no autocast: compute in the precision of the weights
        },
    )
    steps: list[Counts] = []

    def tokens(batch: dict[str, Any]) -> int:
        steps.append(batch_counts(batch))
        return steps[-1].tokens

    with redirect_stdout(io.StringIO()):
        trainer = build_trainer(config, training_arguments(config, out))
        meter = Meter(trainer, tokens)
        trainer.train()
    assert len(steps) == packed.steps > UNTIMED
    return meter, steps
