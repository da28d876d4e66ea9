"""Probes run: what executes is found, what is trapped or computes wrongly is not."""

import platform
import shutil
import signal
from pathlib import Path

import pytest

from edge.runtime.probes import PROGRAMS, Probe, describe, run_probes
from edge.runtime.targets import MACHINES

CROSS = "aarch64-linux-gnu-gcc"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def test_every_feature_has_a_program() -> None:
    assert {machine: set(programs) for machine, programs in PROGRAMS.items()} == {
        machine: set(features) for machine, features in MACHINES.items()
    }


@needs_compiler
@pytest.mark.slow  # compiles a dozen programs
def test_this_machine_is_probed(tmp_path: Path) -> None:
    """A baseline that every machine has of those that torch supports; nothing gives a wrong result."""
    probes = run_probes(platform.machine(), "cc", tmp_path)
    assert [probe.feature for probe in probes] == list(MACHINES[platform.machine()])
    if platform.machine() == "x86_64":
        assert {"SSE42", "AVX", "AVX2"} <= {probe.feature for probe in probes if probe.executed}
    assert not [probe for probe in probes if "wrong" in probe.reason]


@needs_compiler
@pytest.mark.slow
def test_what_the_machine_traps_is_not_used(tmp_path: Path) -> None:
    """As on a virtual machine that advertises what it does not execute: every program dies by SIGILL."""
    trap = tmp_path / "trap"
    trap.write_text("#!/bin/sh\nkill -ILL $$\n")
    trap.chmod(0o755)
    probes = run_probes(platform.machine(), "cc", tmp_path / "probes", [str(trap)])
    known = [probe for probe in probes if probe.reason != "the compiler does not know it"]
    assert known and all(not probe.executed and probe.reason == "illegal instruction" for probe in known)


def test_what_the_compiler_does_not_know_is_not_used(tmp_path: Path) -> None:
    probes = run_probes("aarch64", "false", tmp_path)
    assert probes[0] == Probe("dotprod", False, "the compiler does not know it")


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which(CROSS) and shutil.which("qemu-aarch64")), reason="no cross compiler or emulator")
def test_arm_is_probed_in_an_emulator(tmp_path: Path) -> None:
    """A new core executes all three, the Cortex-A53 of 2012 none."""
    emulator = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu"]
    assert [probe.executed for probe in run_probes("aarch64", CROSS, tmp_path, [*emulator, "max"])] == [True] * 3
    old = run_probes("aarch64", CROSS, tmp_path, [*emulator, "cortex-a53"])
    assert {(probe.executed, probe.reason) for probe in old} == {(False, "illegal instruction")}


def test_how_a_probe_ended() -> None:
    assert describe(0) == "executed"
    assert describe(1) == "executed, with a wrong result"
    assert describe(-signal.SIGILL) == describe(128 + signal.SIGILL) == "illegal instruction"
    assert describe(-signal.SIGSEGV) == "ended by SIGSEGV"
