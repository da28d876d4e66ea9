"""What is reckoned for a step against what torch allocates for it, on a small model whose activations weigh most."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.profiler import ProfilerActivity, profile

from bench.models import save_model
from dpo.policy import load_collator
from dpo.stage import run_dpo
from rlaif.memory.shapes import shape_of
from rlaif.memory.training import Lora, Step, Training, training_memory
from rlaif.storage.run import Run
from tests.support.alignment import config_of
from tests.support.pair_rows import pair_row, write_pairs

TOLERANCE = 0.15
WORDS = "red car the left cup blue green bird "
PAIRS = [
    pair_row(f"pair {i}", f"what is in {i} {WORDS * 20}", f"{WORDS * 4}{i}", f"{WORDS * 4}x {i}", (168, 168))
    for i in range(4)
]


def peak_of(action: Callable[[], object]) -> int:
    """Bytes of torch's CPU allocator at their highest, over those held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        action()
    assert profiled.profiler is not None and profiled.profiler.kineto_results is not None
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, width=256, layers=6, vision_layers=2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["full", "lora", "4bit"])
def test_the_peak_of_dpo(model: Path, tmp_path: Path, method: str, checkpointing: bool) -> None:
    trainer = {"gradient_checkpointing": checkpointing, "max_steps": 2, "save_strategy": "no"}
    settings: dict[str, Any] = {"method": method, "lora": {"r": 16}}
    if method == "4bit":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
        settings |= {"method": "lora", "quantization": "4bit"}
    config = config_of(model, trainer, **settings)
    write_pairs(tmp_path, config, PAIRS)
    measured = peak_of(lambda: run_dpo(Run(tmp_path, config, "dpo")))

    batch: dict[str, Any] = load_collator(config.policy, config.dpo, None)(PAIRS[:2])
    folds = tuple(map(tuple, batch["folds"]))
    step = Step(1, sum(map(sum, folds)), batch["input_ids"].numel(), len(batch["tgt_sizes"]), 36, folds)
    lora = Lora(16, tuple(config.dpo.lora.target_modules), config.dpo.lora.dropout, resampler=False)
    training = Training(
        trained=("resampler", "llm"),
        dtype="float32",
        autocast=False,
        checkpointing=checkpointing,
        accumulation=1,
        optimizer="adamw_torch_fused",
        lora=None if method == "full" else lora,
        reference="float32" if method == "full" else None,
        four_bits=method == "4bit",
    )
    shape = shape_of(config.policy)
    if method == "4bit":  # the whole matrices are mapped from their file; the profiler counts them, but never their end
        measured -= 4 * shape.linear
    reckoned = training_memory(shape, training, step)
    assert reckoned.peak == pytest.approx(measured, rel=TOLERANCE)
