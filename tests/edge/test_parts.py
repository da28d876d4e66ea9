"""A part in a process of its own: its result, its own peak of memory, its errors, and how it can end."""

import os
import signal

import numpy as np
import pytest

from edge.parts import ended, run_part
from rlaif.errors import InputError, ModelError

BLOCK = 200 * 10**6


def fill(size: int) -> int:
    """Touch so many bytes, and give them back."""
    return int(np.ones(size, np.uint8).sum())


def refuse() -> None:
    raise InputError("it is refused")


def divide(number: int) -> float:
    return 1 / number


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)


def test_the_peak_is_that_of_the_part_alone() -> None:
    held = np.ones(BLOCK, np.uint8)  # of this process: no part begins with it
    small, small_peak = run_part("small", fill, 10)
    large, large_peak = run_part("large", fill, BLOCK)
    assert (small, large) == (10, BLOCK) and held[-1] == 1
    assert small_peak < BLOCK < large_peak - small_peak + 10**7
    _, later_peak = run_part("small", fill, 10)
    assert later_peak < BLOCK  # what an earlier part held is given back


def test_errors_of_a_part_are_raised_here() -> None:
    with pytest.raises(InputError, match="it is refused"):
        run_part("refusing", refuse)
    with pytest.raises(ZeroDivisionError) as defect:
        run_part("dividing", divide, 0)
    assert "in divide" in "".join(defect.value.__notes__)  # where it happened


def test_a_part_that_is_ended_is_one_line() -> None:
    with pytest.raises(ModelError, match="'language' ran an instruction that this machine does not have; build for"):
        run_part("language", end_by, signal.SIGILL)
    with pytest.raises(ModelError, match="was killed, most likely because the machine has no memory left; use"):
        run_part("language", end_by, signal.SIGKILL)


def test_every_end_says_what_to_do() -> None:
    assert ended(-signal.SIGSEGV).startswith("was ended by the signal SIGSEGV; ")
    assert ended(3) == "ended with status 3 and no result; run it again"
