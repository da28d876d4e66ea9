"""The folder .edge/: compiled builds by target, and what each build.json says about its build."""

import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from rlaif.errors import InputError, ModelError
from rlaif.storage.files import read_json, write_json

EDGE = Path(__file__).parents[2] / ".edge"
BUILD = "build.json"
HOST = "host"
PACKAGE = "llama-cpp-python"
LIBRARIES = ("libllama.so", "libggml.so", "libggml-base.so", "libggml-cpu.so")
PROGRAM = "edge-llama"
# Threads that wait for each other sleep instead of spinning: beside other work, spinning takes a hundred times as long.
WAITING = {"OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class Installed:
    """A build. machine: as `uname -m` says; features: its instruction sets; version: of llama-cpp-python."""

    target: str
    machine: str
    features: tuple[str, ...]
    version: str
    compiler: str
    seconds: float

    @property
    def folder(self) -> Path:
        return runtime_folder(self.target)

    @property
    def program(self) -> Path:
        """The program that answers without Python."""
        return self.folder / PROGRAM


def runtime_folder(target: str) -> Path:
    """Where the build of a target is, or will be."""
    return EDGE / "runtimes" / target


def read_installed(target: str) -> Installed | None:
    """The build of a target; None if there is none. Errors: InputError for a damaged one."""
    folder = runtime_folder(target)
    if not (folder / BUILD).exists():
        return None
    try:
        values = read_json(folder / BUILD)
        found = Installed(**{**values, "features": tuple(values["features"])})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / BUILD} does not describe a build ({type(error).__name__}); expected what `make edge-runtime` "
            f"writes; remove {folder} and run it again"
        ) from error
    missing = [name for name in (*LIBRARIES, PROGRAM) if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} has no {missing[0]}; expected a whole build; remove it and run `make edge-runtime`")
    return found


def write_installed(build: Installed, folder: Path) -> None:
    """Describe the build in `folder`."""
    write_json(folder / BUILD, {**asdict(build), "features": list(build.features)})


def package_version() -> str:
    """The installed version of llama-cpp-python. Errors: ModelError if it is not installed."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise ModelError(
            f"{PACKAGE} is not installed; requirements/edge.txt has it; run `make edge-runtime`"
        ) from error


def find_build(build: str) -> Installed:
    """The build of a target, if this machine can load it. Errors: ModelError."""
    found = read_installed(build)
    if found is None:
        raise ModelError(
            f"no compiled llama.cpp in {runtime_folder(build)}; expected libllama.so and build.json; "
            f"run `{make_command(build)}`"
        )
    if found.machine != platform.machine():
        raise ModelError(
            f"the build {build} is for {found.machine}, and this machine is {platform.machine()}; "
            "run `make edge-runtime TARGET=host`"
        )
    if found.version != package_version():  # the bindings' structures are those of one version
        raise ModelError(
            f"the build {build} is of {PACKAGE} {found.version}, and {package_version()} is installed; expected the "
            f"same; run `{make_command(build)}`"
        )
    return found


def make_command(build: str) -> str:
    """How to get a build."""
    return "make edge-runtime" if build == HOST else f"make edge-runtime TARGET={build}"
