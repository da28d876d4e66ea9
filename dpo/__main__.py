"""The command `python -m dpo`; what it does: dpo.stage."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path) -> None:
    from dpo.stage import align  # what is large comes after `--help`

    align(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(
        Config,
        "dpo",
        "Align the policy of a run with its pairs by DPO.",
        run,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
