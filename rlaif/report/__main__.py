"""The command `python -m rlaif.report`; rlaif.report.page has the work, so that `--help` imports nothing large."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path) -> None:
    from rlaif.report.page import report

    report(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(Config, "rlaif.report", "Write one self-contained page about a run.", run, argv)


if __name__ == "__main__":
    sys.exit(main())
