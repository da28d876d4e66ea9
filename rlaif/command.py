"""From a command line to a configuration: YAML files, changes by `--set section.key=value`, and errors that say which
key is meant.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rlaif.config import AnyConfig
from rlaif.config.load import load_config_of
from rlaif.errors import RlaifError


def run_stage(
    kind: type[AnyConfig],
    stage: str,
    summary: str,
    action: Callable[[AnyConfig, Path], object],
    argv: Sequence[str] | None = None,
) -> int:
    """The command of a stage: `action` with the configuration and the run folder that the command line names.

    `stage` is the module that `python -m` runs. Returns the exit status: 2 after an error that the user can put right,
    which is told in one line.
    """
    try:
        action(*parse_stage_args(kind, stage, summary, argv))
    except RlaifError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # the disk is full, a file has vanished or may not be touched
        print(
            f"error: {error}; what was finished stays: put it right and start the same command again", file=sys.stderr
        )
        return 2
    return 0


def parse_stage_args(
    kind: type[AnyConfig], stage: str, summary: str, argv: Sequence[str] | None = None
) -> tuple[AnyConfig, Path]:
    """Read the command line that every stage has: `--config FILE --run FOLDER [--set section.key=value ...]`.

    Errors: ConfigError.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {stage}", description=summary)
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML configuration, such as configs/demo.yaml")
    parser.add_argument("--run", required=True, metavar="FOLDER", type=Path, help="run folder, such as runs/demo")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change single values, such as generation.temperature=1.0; can be repeated",
    )
    args = parser.parse_args(argv)
    return load_config_of(kind, args.config, args.overrides), args.run
