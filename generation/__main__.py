"""The command `python -m generation`; see generation.stage."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path) -> None:
    from generation.stage import generate  # heavy imports are deferred so that `--help` stays fast

    generate(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_stage(Config, "generation", "Sample K responses to every (image, instruction).", run, argv)


if __name__ == "__main__":
    sys.exit(main())
