"""The command `python -m evaluation.benchmarks`; see evaluation.benchmarks.stage.

Heavy imports are deferred so that --help stays fast.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path) -> None:
    from evaluation.benchmarks.stage import benchmark

    benchmark(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    summary = "Runs a public hallucination benchmark on the policy, before and after alignment."
    return run_stage(Config, "evaluation.benchmarks", summary, run, argv)


if __name__ == "__main__":
    sys.exit(main())
