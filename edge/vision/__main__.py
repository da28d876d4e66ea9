"""The command `python -m edge.vision`; see edge.vision.export. Heavy imports are deferred so that --help stays fast."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path, soc: str) -> None:
    from edge.vision.export import export_vision

    export_vision(config, path, soc)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--soc",
        default="snapdragon-8-gen-3",
        metavar="NAME",
        help="Snapdragon that the graphs are compiled for; an unknown name lists all",
    )
    return run_stage(Config, "edge.vision", "Write the vision part of a policy for NPUs and CPUs.", run, argv, options)


if __name__ == "__main__":
    sys.exit(main())
