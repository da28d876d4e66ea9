"""The Makefile as tests read it: its help, and the commands that a target would run."""

import os
import subprocess

from tests.support import ROOT


def dry_run(target: str, *settings: str, **environment: str) -> str:
    """What `make TARGET SETTING=VALUE...` would run, without running it."""
    command = ["make", "--no-print-directory", "-n", target, *settings]
    return run(command, environment)


def make_help() -> str:
    return run(["make", "help"], {})


def run(command: list[str], environment: dict[str, str]) -> str:
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=variables).stdout
