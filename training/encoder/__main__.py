"""The command `python -m training.encoder`; see training.encoder.stage."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import EncoderConfig


def run(config: EncoderConfig, path: Path) -> None:
    """Run the stage; heavy imports are deferred so that `--help` stays fast."""
    from training.encoder.stage import train

    train(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(
        EncoderConfig,
        "training.encoder",
        "Train the vision encoder of a MiniCPM-V to tell which short texts are true of a picture.",
        run,
        argv,
        log="training",
    )


if __name__ == "__main__":
    sys.exit(main())
