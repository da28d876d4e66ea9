"""Peak memory of this process and of a child, beside that of a large parent."""

import subprocess
import sys

import pytest

from edge.memory import peak_memory
from rlaif.errors import InputError

MIB = 2**20


def test_the_peak_stays_when_memory_is_released() -> None:
    before = peak_memory()
    block = b"\x01" * (before + 50 * MIB)  # more than this process has had
    during = peak_memory()
    del block
    assert during >= before + 50 * MIB
    assert peak_memory() >= during - MIB  # the kernel counts pages per core, and sums them now and then


def test_a_small_child_of_a_large_parent_is_small() -> None:
    block = b"\x01" * (300 * MIB)
    script = "from edge.memory import peak_memory; print(peak_memory())"
    child = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    assert child < 100 * MIB < len(block) < peak_memory()


def test_a_process_that_does_not_exist_is_an_error() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(InputError, match="expected a running process on Linux"):
        peak_memory(child.pid)
