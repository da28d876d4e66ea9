"""The command `python -m feedback`; what it does: feedback.stage."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path) -> None:
    from feedback.stage import feedback  # what is large comes after `--help`

    feedback(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(
        Config,
        "feedback",
        "Divide responses into claims, judge each, score the responses, make pairs.",
        run,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
