"""The command `python -m dpo`; see dpo.stage."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path) -> None:
    from dpo.stage import align  # heavy imports are deferred so that `--help` stays fast

    align(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_stage(
        Config,
        "dpo",
        "Align the policy of a run with its pairs by DPO.",
        run,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
