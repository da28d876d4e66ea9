"""The command `python -m feedback.evaluate`; what it does: feedback.evaluation."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path) -> None:
    from feedback.evaluation import evaluate  # what is large comes after `--help`

    evaluate(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(
        Config,
        "feedback.evaluate",
        "Hallucination before and after, and the labeler against the truth.",
        run,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
