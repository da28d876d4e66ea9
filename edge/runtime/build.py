"""Compiles llama.cpp for a target with CMake. Builds for one machine share a tree, so that a second one compiles only
what depends on the instruction sets.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.runtime.installed import EDGE, LIBRARIES, PROGRAM, Installed, package_version, read_installed, write_installed
from edge.runtime.source import fetch_source
from edge.runtime.targets import Target, definitions
from rlaif.errors import ModelError

NATIVE = Path(__file__).parent / "native"
CROSS = "aarch64-linux-gnu-"
CROSS_ROOT = "/usr/aarch64-linux-gnu"  # Debian's libraries for that machine, which the emulator needs
EMULATOR = "qemu-aarch64"
ERROR = re.compile(r"(?:^|\s)[Ee]rror\b")  # not the option -Werror of a command that is shown


@dataclass(frozen=True)
class Toolchain:
    """Compilers for a machine, and how to run what they make: nothing, an emulator, or None where it is missing."""

    c: str
    cxx: str
    runner: tuple[str, ...] | None

    @property
    def description(self) -> str:
        """The compiler's first line of --version."""
        done = subprocess.run([self.cxx, "--version"], capture_output=True, text=True)
        return (done.stdout.splitlines() or [self.cxx])[0]


def find_toolchain(machine: str) -> Toolchain:
    """The compilers for a machine. Errors: ModelError where there is none."""
    if machine == platform.machine():
        c, cxx = (os.environ.get("CC") or "cc"), (os.environ.get("CXX") or "c++")
        runner: tuple[str, ...] | None = ()
        package = "g++"
    else:
        c, cxx = f"{CROSS}gcc", f"{CROSS}g++"
        runner = (EMULATOR, "-L", CROSS_ROOT, "-cpu", "max") if shutil.which(EMULATOR) else None
        package = "g++-aarch64-linux-gnu"
    for program in (c, cxx):
        if shutil.which(program) is None:
            raise ModelError(
                f"no compiler {program} for {machine} on this machine; llama.cpp is compiled here; install one "
                f"(Debian, Ubuntu: apt install {package}), then run the same command again"
            )
    return Toolchain(c, cxx, runner)


def build(target: Target, toolchain: Toolchain, folder: Path) -> Installed:
    """Compile a target; the libraries, the program and build.json are put into `folder`, which is created.

    Errors: ModelError with the compiler's first error; the whole output is in .edge/build/<machine>/log.txt.
    """
    source, start = fetch_source(), time.monotonic()
    tree = EDGE / "build" / target.machine
    if not is_of_this_project(tree):
        shutil.rmtree(tree)
    tree.mkdir(parents=True, exist_ok=True)
    log = tree / "log.txt"
    log.write_text("", encoding="utf-8")
    print(f"edge-runtime: compiling {target.name} ({', '.join(target.features) or 'no extensions'})", flush=True)
    run_logged(configure_command(target, toolchain, source, tree), log)
    run_logged([_tool("cmake"), "--build", str(tree), "--target", PROGRAM, "--parallel", str(cores())], log)
    found = Installed(
        target=target.name,
        machine=target.machine,
        features=target.features,
        version=package_version(),
        compiler=toolchain.description,
        seconds=round(time.monotonic() - start, 1),
    )
    folder.mkdir(parents=True)
    for name in (*LIBRARIES, PROGRAM):
        shutil.copy2(tree / "bin" / name, folder / name)
    write_installed(found, folder)
    return found


def is_of_this_project(tree: Path) -> bool:
    """Whether CMake would take the tree: it refuses one whose project has been moved."""
    cache = tree / "CMakeCache.txt"
    home = f"CMAKE_HOME_DIRECTORY:INTERNAL={NATIVE}"
    return not tree.exists() or (cache.is_file() and home in cache.read_text(encoding="utf-8").splitlines())


def is_current(target: Target, toolchain: Toolchain) -> bool:
    """Whether the target's build was made from this source, with these instruction sets and this compiler."""
    found = read_installed(target.name)
    return found is not None and (found.machine, found.features, found.version, found.compiler) == (
        target.machine,
        target.features,
        package_version(),
        toolchain.description,
    )


def configure_command(target: Target, toolchain: Toolchain, source: Path, tree: Path) -> list[str]:
    """CMake's arguments. Libraries have plain names and look for each other in their own folder."""
    options = {
        "LLAMA_CPP": str(source.resolve()),
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_C_COMPILER": toolchain.c,
        "CMAKE_CXX_COMPILER": toolchain.cxx,
        "CMAKE_MAKE_PROGRAM": _tool("ninja"),
        "CMAKE_PLATFORM_NO_VERSIONED_SONAME": "ON",
        "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
        "CMAKE_INSTALL_RPATH": "$ORIGIN",
        "BUILD_SHARED_LIBS": "ON",
        "LLAMA_BUILD_NUMBER": "0",  # otherwise asked of git, which would answer for this repository
        "LLAMA_BUILD_COMMIT": package_version(),
        **definitions(target),
    }
    if target.machine != platform.machine():
        options |= {"CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": target.machine, "GGML_OPENMP": "OFF"}
    defined = [f"-D{name}={value}" for name, value in options.items()]
    return [_tool("cmake"), "-G", "Ninja", "-S", str(NATIVE), "-B", str(tree), *defined]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _tool(name: str) -> str:
    """A program of .venv/bin, where requirements/ put it. Errors: ModelError."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise ModelError(f"no {path}; requirements/edge.txt installs it; run `make edge-runtime`")
    return str(path)


def run_logged(command: Sequence[str], log: Path) -> None:
    """Run a command, its output appended to the log. Errors: ModelError with the last line that names an error."""
    with log.open("a", encoding="utf-8") as opened:
        status = subprocess.run(command, stdout=opened, stderr=subprocess.STDOUT).returncode
    if status != 0:
        lines = [
            line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
        errors = [line for line in lines if ERROR.search(line)]
        reason = (errors or lines or [f"status {status}"])[0]
        raise ModelError(
            f"llama.cpp could not be compiled: {reason}; expected a C++17 compiler and its libraries; "
            f"read {log}, then run the same command again"
        )
