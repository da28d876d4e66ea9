"""The dpo stage of the tiny model, in a process that can be killed."""

import os
from pathlib import Path

from dpo.stage import run_dpo
from dpo.trainer import build_trainer  # its imports take most of the time of a process
from rlaif.config import Config
from rlaif.storage.run import Run
from tests.support.pair_rows import varied_pairs, write_pairs

assert build_trainer


def config_of(model: Path) -> Config:
    trainer = {
        "per_device_train_batch_size": 2,
        "max_steps": 8,
        "save_steps": 1,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
    }
    model_section = {"model": str(model)}
    return Config.model_validate({"policy": model_section, "labeler": model_section, "dpo": {"trainer": trainer}})


def prepare(path: Path, model: Path) -> None:
    write_pairs(path, config_of(model), varied_pairs(8))


def align(path: Path, model: Path) -> None:
    os.environ["TQDM_DISABLE"] = "1"
    run_dpo(Run(path, config_of(model), "dpo"))
