"""The command `python -m edge.tuning`; see edge.tuning.stage. Heavy imports are deferred so that --help stays fast."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path, quant: str, exhaustive: bool) -> None:
    from edge.tuning.stage import tune

    tune(config, path, quant, exhaustive)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--quant", default="Q4_K_M", help="quantization of the language model; default Q4_K_M")
    options.add_argument("--exhaustive", action="store_true", help="measure every configuration equally often")
    summary = "Searches the settings with which llama.cpp runs an export fastest on this machine."
    return run_stage(Config, "edge.tuning", summary, run, argv, options)


if __name__ == "__main__":
    sys.exit(main())
