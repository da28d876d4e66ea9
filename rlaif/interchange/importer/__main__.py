"""The command `python -m rlaif.interchange.importer`; see rlaif.interchange.importer.stage."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config


def run(config: Config, path: Path) -> None:
    from rlaif.interchange.importer.stage import import_data  # heavy imports are deferred so that `--help` stays fast

    import_data(config, path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    summary = "Import preference pairs or responses that others made."
    return run_stage(Config, "rlaif.interchange.importer", summary, run, argv, log="import")


if __name__ == "__main__":
    sys.exit(main())
