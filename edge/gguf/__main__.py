"""The command `python -m edge.gguf`; see edge.gguf.export. Heavy imports are deferred so that --help stays fast."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path, quant: str) -> None:
    from edge.gguf.export import export_gguf

    export_gguf(config, path, quant.split())


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--quant", default="Q4_K_M", metavar="QUANT", help="one or more, such as 'Q8_0 Q4_K_M'")
    return run_stage(Config, "edge.gguf", "Write the policy of a run for llama.cpp.", run, argv, options)


if __name__ == "__main__":
    sys.exit(main())
