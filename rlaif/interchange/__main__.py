"""The command `python -m rlaif.interchange`, which runs `rlaif.interchange.export`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path) -> None:
    from rlaif.interchange.export import export

    export(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(Config, "rlaif.interchange", "Write the pairs of a run for another tool.", run, argv, log="export")


if __name__ == "__main__":
    sys.exit(main())
