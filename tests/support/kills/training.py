"""The dpo stage of the tiny model, in a process that can be killed."""

import os
from pathlib import Path

from dpo.stage import run_dpo
from rlaif.config import Config
from rlaif.storage.run import Run
from tests.support import alignment
from tests.support.pair_rows import varied_pairs, write_pairs


def config_of(model: Path) -> Config:
    """Eight steps, a checkpoint after each."""
    return alignment.config_of(model, {"max_steps": 8, "save_steps": 1})


def prepare(path: Path, model: Path) -> None:
    write_pairs(path, config_of(model), varied_pairs(8))


def align(path: Path, model: Path) -> None:
    os.environ["TQDM_DISABLE"] = "1"
    run_dpo(Run(path, config_of(model), "dpo"))
