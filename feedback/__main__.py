"""The command `python -m feedback`; see feedback.stage."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path) -> None:
    from feedback.stage import feedback  # heavy imports are deferred so that `--help` stays fast

    feedback(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_stage(
        Config,
        "feedback",
        "Divide responses into claims, verify each claim, score the responses, choose pairs.",
        run,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
