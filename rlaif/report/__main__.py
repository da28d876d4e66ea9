"""The command `python -m rlaif.report`; rlaif.report.page has the work, so that `--help` imports nothing large."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.errors import ConfigError


def run(config: Config, path: Path, format: str) -> None:
    from rlaif.report.page import chart_files, report

    if format not in ("html", "png"):
        raise ConfigError(f"FORMAT is {format!r}, expected html, the report, or png, its charts; correct FORMAT=")
    (report if format == "html" else chart_files)(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--format", default="html", metavar="NAME", help="html, the page (default), or png, its charts"
    )
    return run_stage(Config, "rlaif.report", "Write one self-contained page about a run.", run, argv, options)


if __name__ == "__main__":
    sys.exit(main())
