"""The command `python -m evaluation`; see evaluation.stage. Heavy imports are deferred so that --help stays fast."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path) -> None:
    from evaluation.stage import evaluate

    evaluate(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    summary = "Measures hallucination before and after, and the labeler against the truth."
    return run_stage(Config, "evaluation", summary, run, argv, log="evaluate")


if __name__ == "__main__":
    sys.exit(main())
