"""The command `python -m training`; see training.stage."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import TrainingConfig


def run(config: TrainingConfig, path: Path) -> None:
    """Run the stage; heavy imports are deferred so that `--help` stays fast."""
    from training.stage import train

    train(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(
        TrainingConfig,
        "training",
        "Train MiniCPM-V: one stage of pre-training or supervised fine-tuning.",
        run,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
