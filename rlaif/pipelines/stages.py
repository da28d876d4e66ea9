"""Runs stages as the Makefile does, each in its own process, and training on several of them."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from rlaif.config import Config
from rlaif.errors import RlaifError
from rlaif.launch import Launching
from rlaif.storage.files import atomic_write

STAGES = ("generation", "feedback", "dpo", "evaluation", "rlaif.report")  # a whole round
ROUNDS = "rlaif.pipelines.rounds"

RunStages = Callable[[Sequence[str], Config, Path], None]


def run_stages(stages: Sequence[str], config: Config, folder: Path, launching: Launching | None = None) -> None:
    """Run stages in order on a run folder; config.yaml beside their tables has the configuration.

    launching: how DPO starts, alone or within rounds; default one process.
    Errors: RlaifError if a stage fails, after the message of the stage.
    """
    folder.mkdir(exist_ok=True)
    file = folder / "config.yaml"
    with atomic_write(file) as temporary:
        temporary.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    for stage in stages:
        command = [sys.executable, "-m", stage]
        if launching is not None and stage == "dpo":
            command = launching.command(stage)
        command += ["--config", str(file), "--run", str(folder)]
        if launching is not None and stage == ROUNDS:
            command += launching.arguments()
        status = subprocess.run(command, check=False).returncode
        if status:
            raise RlaifError(
                f"`{shlex.join(command[1:])}` failed with exit status {status}; fix the error above and run the same "
                "command again: finished stages are not repeated"
            )
