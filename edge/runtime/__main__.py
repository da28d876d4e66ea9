"""Compile llama.cpp for a machine into .edge/runtimes/<target>/, try the build, and compare the builds that there are.

make edge-runtime                    # for this machine, with the instruction sets that it executes
make edge-runtime TARGET=portable    # for any x86-64 of the last fifteen years
make edge-runtime TARGET=aarch64     # for phones and boards, with Debian's cross compiler
"""

import argparse
import platform
import sys
from collections.abc import Sequence

from rlaif.command import report_error
from rlaif.errors import ConfigError, RlaifError


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns 2 after an error that the user can fix."""
    parser = argparse.ArgumentParser(
        prog="python -m edge.runtime", description="Compiles llama.cpp for a machine, and tries and compares the build."
    )
    parser.add_argument("--target", default="host", help="host, portable, avx2, avx512 or aarch64; default host")
    parser.add_argument("--threads", type=int, default=1, help="threads of the comparison; default 1")
    args = parser.parse_args(argv)
    try:
        run(args.target, args.threads)
    except RlaifError as error:
        report_error(str(error))
        return 2
    except OSError as error:  # a full disk, missing permissions
        report_error(f"{error}; fix it and run the same command again")
        return 2
    return 0


def run(name: str, threads: int) -> None:
    """Compile what is missing or stale, then compare. Errors: RlaifError."""
    from edge.runtime.build import build, find_toolchain, is_current
    from edge.runtime.installed import EDGE, runtime_folder
    from edge.runtime.probes import run_probes
    from edge.runtime.targets import MACHINES, is_executable, make_target
    from edge.runtime.trial import try_build
    from rlaif.storage.files import atomic_folder, locked

    if threads < 1:
        raise ConfigError(f"--threads={threads}; expected at least 1; leave it out for 1")
    machine = platform.machine()
    make_target(name, machine, ())  # an unknown name needs no compiler
    EDGE.mkdir(exist_ok=True)
    with locked(EDGE / "lock"):
        probes = run_probes(machine, find_toolchain(machine).c, EDGE / "probes") if machine in MACHINES else []
        executed = {probe.feature for probe in probes if probe.executed}
        for probe in probes:
            print(f"edge-runtime: {probe.feature}: {probe.reason}")
        target = make_target(name, machine, executed)
        toolchain = find_toolchain(target.machine)
        if is_current(target, toolchain):
            print(f"edge-runtime: {runtime_folder(name)} is up to date")
        else:
            with atomic_folder(runtime_folder(name)) as folder:
                build(target, toolchain, folder)
                if target.machine == machine and not is_executable(target, machine, executed):
                    print(f"edge-runtime: {name} was not tried: this machine does not execute {target.features[-1]}")
                elif toolchain.runner is None:
                    print(
                        f"edge-runtime: {name} was not tried: no emulator qemu-aarch64 (Debian: apt install qemu-user)"
                    )
                else:
                    try_build(folder, name, 1, toolchain.runner)
                    print(f"edge-runtime: {name} gives the known answer in every quantization")
            print(f"edge-runtime: wrote {runtime_folder(name)}")
    compare(executed, threads)


def compare(executed: set[str], threads: int) -> None:
    """Print the table of all builds."""
    from edge.runtime.installed import read_installed
    from edge.runtime.speed import measure, table
    from edge.runtime.targets import TARGETS, Target, is_executable

    order = ("portable", *(name for name in TARGETS if name != "portable"))
    builds = [found for name in order if (found := read_installed(name)) is not None]
    runnable = [
        found
        for found in builds
        if is_executable(Target(found.target, found.machine, found.features), platform.machine(), executed)
    ]
    print(f"\nTokens a second with {threads} thread{'s' if threads > 1 else ''}, median (range) of turns\n")
    print(table(builds, measure(runnable, threads) if runnable else {}))


if __name__ == "__main__":
    sys.exit(main())
