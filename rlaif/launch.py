"""Start a training stage on several processes, one a GPU, or on the CPU where there is no GPU.

    make dpo PROCESSES=8 SHARDING=fsdp2
    python -m rlaif.launch --processes 8 --sharding fsdp2 dpo --config configs/demo.yaml --run runs/demo

runs `accelerate launch --config_file configs/accelerate/fsdp2.yaml --num_processes 8 -m dpo ...` on this machine. When
a process dies, the others are stopped. For several machines there is LAUNCH=, the launcher of the cluster itself.
"""

import argparse
import importlib.util
import logging
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlaif.errors import ConfigError, RlaifError
from rlaif.terminal_log import recorded

SHARDINGS = Path("configs/accelerate")  # one file for each, by name
INSTALL_DEEPSPEED = ".venv/bin/python -m pip install --no-deps --no-build-isolation deepspeed==0.19.8 hjson==3.1.0"


def process_count(text: str, gpus: int) -> int:
    """The value of PROCESSES. gpus: those that this machine has; 0: the processes share its CPU.

    Errors: ConfigError.
    """
    if not text:
        raise ConfigError("SHARDING is set without PROCESSES; it shares a model among processes: set PROCESSES too")
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"PROCESSES is {text!r}; expected a number from 1 on: one process a GPU")
    if gpus and int(text) > gpus:
        raise ConfigError(
            f"PROCESSES is {text}, but this machine has {gpus} GPU{'s' * (gpus > 1)}, one a process; "
            f"set PROCESSES={gpus}, or LAUNCH= to use several machines"
        )
    return int(text)


def sharding_file(name: str) -> Path:
    """The configuration of accelerate that SHARDING names: one of configs/accelerate/, or a file.

    Errors: ConfigError: there is no such file, or it needs DeepSpeed, which is not installed.
    """
    names = sorted(file.stem for file in SHARDINGS.glob("*.yaml"))
    file = SHARDINGS / f"{name or 'ddp'}.yaml" if name in ("", *names) else Path(name)
    if not file.is_file():
        raise ConfigError(f"SHARDING is {name!r}; expected {', '.join(names)}, or a configuration file of accelerate")
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        settings = None
    if not isinstance(settings, dict) or "distributed_type" not in settings:
        raise ConfigError(f"{file} is not a configuration of accelerate; write one with `.venv/bin/accelerate config`")
    if settings["distributed_type"] == "DEEPSPEED" and importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(f"{file} needs DeepSpeed, which is not installed; install it: {INSTALL_DEEPSPEED}")
    return file


def launcher_arguments(file: Path, processes: int, cores: int, command: Sequence[str]) -> list[str]:
    """What follows `accelerate launch`. cores: of this machine, shared by the processes. command: module, arguments."""
    threads = str(max(1, cores // processes))
    return [
        *("--config_file", str(file), "--num_machines", "1", "--num_processes", str(processes)),
        *("--main_process_port", "0", "--num_cpu_threads_per_process", threads, "-m", *command),
    ]


def launch(arguments: Sequence[str]) -> int:
    """Run `accelerate launch` until all processes have ended; returns the exit status.

    A failed process that has reported an error itself exits with 2.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("OMP_NUM_THREADS", arguments[arguments.index("--num_cpu_threads_per_process") + 1])
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # under nohup; torch would end at the hang-up nevertheless
        os.environ.setdefault("PET_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGQUIT")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # its report is a page long
    try:
        launch_command(launch_command_parser().parse_args(arguments))
    except ChildFailedError as error:
        return report(list(error.failures.values()))
    except SignalException as stop:  # Ctrl-C or a scheduler; the processes have been stopped
        return 128 + int(stop.sigval)
    return 0


def report(failures: Sequence[Any]) -> int:
    """Print what the failed processes have not printed themselves; returns the exit status.

    failures: ProcessFailure of torch, for the processes that ended by themselves. Those of `rlaif.command` end with 2.
    """
    explained = [failure for failure in failures if failure.exitcode == 2]
    killed = [failure for failure in failures if failure.exitcode < 0]
    if explained:
        lines = {failure.message for failure in explained if failure.error_file_data.get("message") == failure.message}
        if not any(failure.local_rank == 0 for failure in explained):
            for line in sorted(lines):
                print(f"error: {line}", file=sys.stderr)
    elif killed:
        name = signal.Signals(-killed[0].exitcode).name
        print(
            f"error: process {killed[0].local_rank} was ended by {name} and the others were stopped; find out why (out "
            "of memory?) and run the same command again, which resumes",
            file=sys.stderr,
        )
    return 2 if explained or killed else 1


@dataclass(frozen=True)
class Launching:
    """How training starts: the values of PROCESSES, SHARDING and LAUNCH, "" where they are not set."""

    processes: str = ""
    sharding: str = ""
    launch: str = ""

    def check(self) -> None:
        """Errors: ConfigError for values that cannot start anything on this machine."""
        if self.launch and (self.processes or self.sharding):
            name = "PROCESSES" if self.processes else "SHARDING"
            raise ConfigError(
                f"LAUNCH and {name} are both set; LAUNCH decides on processes and sharding itself: remove one"
            )
        program = next((word for word in self._words() if "=" not in word), None)
        if program is not None and shutil.which(program) is None:
            raise ConfigError(f"LAUNCH starts {program!r}, which is not a program here; set LAUNCH to a launcher")
        if not (self.processes or self.sharding):
            return
        import torch  # deferred so that `--help` stays fast

        if process_count(self.processes, torch.cuda.device_count()) == 1 and self.sharding:
            raise ConfigError(f"SHARDING is {self.sharding} with one process; set PROCESSES to 2 or more, or remove it")
        sharding_file(self.sharding)

    def arguments(self) -> list[str]:
        """The options of a command line that give the same values."""
        return ["--processes", self.processes, "--sharding", self.sharding, "--launch", self.launch]

    def command(self, module: str) -> list[str]:
        """What starts a module, as the Makefile does; its arguments follow."""
        if self.processes or self.sharding:
            return [sys.executable, "-m", "rlaif.launch", *self.arguments(), module]
        return ["env", *self._words(), module] if self.launch else [sys.executable, "-m", module]

    def _words(self) -> list[str]:
        """LAUNCH as a shell reads it; it may begin with variables. Errors: ConfigError."""
        try:
            return shlex.split(self.launch)
        except ValueError as error:
            raise ConfigError(f"LAUNCH is {self.launch!r}: {error}; expected a command line") from error


def launching_options() -> argparse.ArgumentParser:
    """The options of `Launching`, for other parsers."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--processes", default="", metavar="N", help="processes, one a GPU; without GPUs on the CPU")
    options.add_argument(
        "--sharding", default="", metavar="NAME", help="ddp, fsdp2, zero2, zero3, or a file of accelerate"
    )
    options.add_argument("--launch", default="", metavar="COMMAND", help="another launcher, instead of --processes")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m rlaif.launch",
        description="Start a training stage on several processes.",
        parents=[launching_options()],
    )
    parser.add_argument("module", help="the stage: dpo or training")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the stage")
    run_option = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    run_option.add_argument("--run")
    args = parser.parse_args(argv)
    launching = Launching(args.processes, args.sharding, args.launch)
    try:
        launching.check()
    except RlaifError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    command = [args.module, *args.arguments]
    processes = int(launching.processes or 1)
    if processes == 1:
        os.execv(sys.executable, [sys.executable, "-m", *command])
    run = run_option.parse_known_args(args.arguments)[0].run  # whose log says why the processes ended
    with recorded(Path(run) / f"{args.module.rpartition('.')[2]}.log") if run else nullcontext():
        return launch(launcher_arguments(sharding_file(launching.sharding), processes, os.cpu_count() or 1, command))


if __name__ == "__main__":
    sys.exit(main())
