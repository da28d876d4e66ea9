"""The command line of every stage: `--config FILE --run FOLDER [--set section.key=value ...]`."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rlaif.config import AnyConfig
from rlaif.config.load import load_config_of
from rlaif.errors import RlaifError

SECONDS_FOR_THE_FIRST = 3  # an error of all processes is printed once, by the first of them


def run_stage(
    kind: type[AnyConfig],
    stage: str,
    summary: str,
    action: Callable[[AnyConfig, Path], object],
    argv: Sequence[str] | None = None,
) -> int:
    """Runs `action` with the configuration and the run folder that the command line gives.

    stage: the module that `python -m` runs. summary: what it does, for `--help`.
    Returns the exit status: 2, after one line on stderr, for an error that the user can fix.
    """
    try:
        action(*parse_stage_args(kind, stage, summary, argv))
    except RlaifError as error:
        report_error(str(error))
        return 2
    except OSError as error:  # a full disk, a deleted file, missing permissions
        report_error(f"{error}; fix it and run the same command again, which resumes")
        return 2
    return 0


def report_error(message: str) -> None:
    """Print one line on stderr. Of several processes, only the first does so; another one hands its line to the
    launcher, after the first has had the time to end with the same error.
    """
    if os.environ.get("RANK", "0") == "0":
        print(f"error: {message}", file=sys.stderr, flush=True)
        return
    # where torch.distributed.elastic.multiprocessing.errors looks for it, and in its format
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        Path(file).write_text(json.dumps({"message": message, "timestamp": int(time.time())}), encoding="utf-8")
    time.sleep(SECONDS_FOR_THE_FIRST)


def parse_stage_args(
    kind: type[AnyConfig], stage: str, summary: str, argv: Sequence[str] | None = None
) -> tuple[AnyConfig, Path]:
    """The configuration and the run folder that the command line of a stage gives. Errors: ConfigError."""
    parser = argparse.ArgumentParser(prog=f"python -m {stage}", description=summary)
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML configuration, such as those in configs/")
    parser.add_argument("--run", required=True, metavar="FOLDER", type=Path, help="run folder, such as those in runs/")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change single values of the configuration; `make help-config` lists the keys",
    )
    args = parser.parse_args(argv)
    return load_config_of(kind, args.config, args.overrides), args.run
