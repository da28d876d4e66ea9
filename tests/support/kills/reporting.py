"""Work for `bench.isolated.reports` in a new process; a module of its own, because that process imports it."""

import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

Report = Callable[[Any], None]


def count(report: Report, least: int, most: int) -> None:
    for value in range(least, most):
        report(value)


def fail(report: Report) -> None:
    report("first")
    raise ValueError("12 GiB do not fit\nsecond line")


def die(report: Report) -> None:
    os._exit(3)


def hang(report: Report) -> None:
    report(subprocess.Popen(["sleep", "600"]).pid)
    time.sleep(600)
