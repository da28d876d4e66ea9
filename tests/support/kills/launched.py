"""A training stage on two processes, as `make` starts it, and which ways of sharding the tests try."""

import importlib.util
import os
import subprocess
import sys
import time

import pytest

from tests.support import ROOT

SHARDINGS = ("ddp", "fsdp2", "zero2", "zero3")
EVERYTHING = os.environ.get("RLAIF_PROCESSES") == "all"  # takes a quarter of an hour


def start(sharding: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    """A module with its arguments on two processes of one thread each."""
    if sharding.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed")
    launcher = [sys.executable, "-m", "rlaif.launch", "--processes", "2", "--sharding", sharding]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    return subprocess.run([*launcher, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


def start_and_kill(sharding: str, step: int, command: list[str]) -> None:
    """The same, where the second process kills itself before update number `step`: the first must end within a minute,
    and one line, without a traceback, says what happened.
    """
    ended = start(sharding, ["tests.support.kills.process", str(step), *command])
    now = time.time()
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert ended.returncode == 2 and len(errors) == 1, ended.stderr
    assert "process 1 was ended by SIGKILL" in errors[0] and "the same command again, which resumes" in errors[0]
    assert "Traceback" not in ended.stderr, "of the first process, which lost its connection"
    assert now - float(ended.stdout.rpartition("kills itself at ")[2].split()[0]) < 60
