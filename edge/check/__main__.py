"""The command `python -m edge.check`; see edge.check.stage. Heavy imports are deferred so that --help stays fast."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path) -> None:
    from edge.check.stage import check

    check(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(Config, "edge.check", "Compares every export of a run with its policy.", run, argv)


if __name__ == "__main__":
    sys.exit(main())
