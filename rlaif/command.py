"""The command line of every stage: `--config FILE --run FOLDER [--set section.key=value ...]`."""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from rlaif.config import AnyConfig
from rlaif.config.load import load_config_of
from rlaif.errors import ConfigError, RlaifError
from rlaif.terminal_log import recorded

SECONDS_FOR_THE_FIRST = 3  # an error of all processes is printed once, by the first of them


def run_stage(
    kind: type[AnyConfig],
    stage: str,
    summary: str,
    action: Callable[..., object],
    argv: Sequence[str] | None = None,
    options: argparse.ArgumentParser | None = None,
    log: str = "",
) -> int:
    """Runs `action` with the configuration and the run folder that the command line gives.

    stage: the module that `python -m` runs. summary: what it does, for `--help`. options: further ones, whose values
    `action` gets as keywords. log: the name of the file in the run folder that gets what is printed, `<log>.log`; by
    default the last part of the module's.
    Returns the exit status: 2, after one line on stderr, for an error that the user can fix.
    """
    follow_launcher()
    with ExitStack() as recording:
        try:
            config, run, others = parse_stage_args(kind, stage, summary, argv, options)
            recording.enter_context(recorded(run / f"{log or stage.rpartition('.')[2]}.log"))
            action(config, run, **others)
        except RlaifError as error:
            report_error(str(error))
            return 2
        except OSError as error:  # a full disk, a deleted file, missing permissions
            report_error(f"{error}; fix it and run the same command again, which resumes")
            return 2
    return 0


def exit_status(action: Callable[[], object]) -> int:
    """Runs `action` of a command that is not a stage: 0, or 2 after one line on stderr, for an error that the user can
    fix.
    """
    try:
        action()
    except (RlaifError, OSError) as error:
        report_error(str(error))
        return 2
    return 0


def follow_launcher() -> None:
    """What a process of a launcher does; nothing in a process of its own.

    It ends when the launcher is killed: otherwise training would go on unseen, and hold its run folder and GPU. torch
    gives its processes a session of their own, so no signal of the terminal reaches them.

    And it prints the traceback of a defect a moment later. Where another process has died, what fails here is the
    connection to that one, and the launcher, which says so in one line, ends this process before the traceback.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return

    def print_later(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        time.sleep(SECONDS_FOR_THE_FIRST)
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = print_later
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(1)
        os._exit(2)  # the stage resumes, as after any other kill

    threading.Thread(target=watch, name="launcher watch", daemon=True).start()


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
    kind: type[AnyConfig],
    stage: str,
    summary: str,
    argv: Sequence[str] | None = None,
    options: argparse.ArgumentParser | None = None,
) -> tuple[AnyConfig, Path, dict[str, Any]]:
    """What the command line of a stage gives: the configuration, the run folder, the values of further options.

    Errors: ConfigError.
    """
    parents = [] if options is None else [options]
    parser = argparse.ArgumentParser(prog=f"python -m {stage}", description=summary, parents=parents)
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML configuration, such as those in configs/")
    parser.add_argument("--run", required=True, metavar="FOLDER", help="run folder, such as those in runs/")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change single values of the configuration; `make help-config` lists the keys",
    )
    values = vars(parser.parse_args(argv))
    config, run, overrides = (values.pop(name) for name in ("config", "run", "overrides"))
    if not run:
        raise ConfigError("RUN is empty, expected the folder of a run, such as runs/demo; give one, or leave RUN= out")
    return load_config_of(kind, config, overrides), Path(run), values


def at_least_one(text: str) -> int:
    """The `type` of an argument of argparse that is a number of things. Errors: ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def read_port(text: str) -> int:
    """Errors: ConfigError: it is not the number of a port."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ConfigError(f"PORT is {text!r}, expected a number from 1 to 65535; correct PORT=")
    return int(text)
