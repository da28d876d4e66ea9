"""DPO of a small model, for a few steps: its configuration, the run, what moved, and a kill at a given step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dpo.stage import run_dpo
from rlaif.config import Config
from rlaif.storage.run import Run
from tests.support.pair_rows import varied_pairs, write_pairs

TRAINER = {
    "per_device_train_batch_size": 2,
    "max_steps": 4,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
}


def config_of(model: Path, trainer: dict[str, Any] | None = None, **dpo: Any) -> Config:
    return Config.model_validate(
        {
            "seed": 3,
            "policy": {"model": str(model)},
            "labeler": {"model": "unused"},
            "dpo": {"trainer": {**TRAINER, **(trainer or {})}, **dpo},
        }
    )


def align(path: Path, config: Config, rows: list[dict[str, Any]] | None = None) -> Path:
    """Run the stage on a new run folder; returns the folder."""
    write_pairs(path, config, varied_pairs(8) if rows is None else rows)
    run_dpo(Run(path, config, "dpo"))
    return path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def moved(before: Path, after: Path) -> set[str]:
    """Which of the released layout's tensors differ in any bit; their names, shapes and precisions are the same."""
    old, new = weights(before), weights(after)
    assert {name: (x.shape, x.dtype) for name, x in old.items()} == {
        name: (x.shape, x.dtype) for name, x in new.items()
    }
    return {name for name in old if not torch.equal(old[name], new[name])}


def kill_at_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Interrupt training before its update number `step`, counted from 0."""
    from dpo.trainer import PairTrainer

    original: Any = PairTrainer.training_step

    def training_step(self: PairTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(PairTrainer, "training_step", training_step)
