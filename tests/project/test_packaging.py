"""What an installation gets: pinned versions, the packages and their files, the names that `model` exports."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from rlaif.storage.versions import PACKAGES
from tests.support import ROOT


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_versions_are_pinned_in_one_place() -> None:
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for name in ("pins.txt", "cpu.txt")
        for line in (ROOT / "requirements" / name).read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    project = pyproject()["project"]
    named = project["dependencies"] + project["optional-dependencies"]["cpu"] + project["optional-dependencies"]["dev"]
    assert all(name.replace("-", "").replace("_", "").isalnum() for name in named), "pyproject.toml pins nothing"
    assert {name.lower().replace("_", "-") for name in named} <= pins
    assert not {"torchvision", "torchaudio", "torchcodec"} & pins


def test_versions_of_edge_are_pinned_apart() -> None:
    """requirements/edge.txt is complete beside pins.txt, and nothing of it is in the main lock."""
    text = (ROOT / "requirements" / "edge.txt").read_text()
    lines = [line for line in text.splitlines() if line[:1] not in ("", "#")]
    assert all(re.match(r"[\w-]+==[\w.]+( |$)", line) for line in lines)
    pins = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    assert set(pyproject()["project"]["optional-dependencies"]["edge"]) <= pins
    main = "\n".join((ROOT / "requirements" / name).read_text().lower() for name in ("pins.txt", "cpu.txt", "cuda.txt"))
    assert not {name for name in pins if f"\n{name}==" in main.replace("_", "-")}


def test_every_package_is_installed_with_its_files() -> None:
    setuptools = pyproject()["tool"]["setuptools"]
    assert setuptools["packages"]["find"]["include"] == [f"{name}*" for name in PACKAGES]
    data = {
        str(path.relative_to(ROOT / package))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    installed = {
        str(path.relative_to(ROOT / package))
        for name, patterns in setuptools["package-data"].items()
        for package in (PACKAGES if name == "*" else [name])
        for pattern in patterns
        for path in (ROOT / package).glob(pattern)
    }
    assert data == installed


@pytest.mark.parametrize(
    ("version", "status", "message"),
    [
        ((3, 11), 0, ""),
        ((3, 12), 0, "is Python 3.12, which should work; the tests are run with 3.11"),
        ((3, 13), 0, "is Python 3.13, which should work; the tests are run with 3.11"),
        ((3, 10), 2, "is Python 3.10; give one from 3.11 to 3.13: make setup PYTHON=/path/to/python3.11"),
        ((3, 14), 2, "is Python 3.14; give one from 3.11 to 3.13: make setup PYTHON=/path/to/python3.11"),
    ],
)
def test_setup_checks_the_version_of_python(
    version: tuple[int, int], status: int, message: str, tmp_path: Path
) -> None:
    python = tmp_path / "python"  # this interpreter, under another version
    script = f"import sys; sys.version_info = {(*version, 1)}; exec(sys.argv[1])"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{script}" "$2"\n')
    python.chmod(0o755)
    command = ["make", "--no-print-directory", ".check-python", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status
    assert message in done.stdout + done.stderr and bool(done.stdout + done.stderr) == bool(message)


def test_python_versions_that_set_up_takes_are_those_of_the_package() -> None:
    assert pyproject()["project"]["requires-python"] == ">=3.11,<3.14"


def test_types_are_checked_strictly_in_every_package() -> None:
    mypy = pyproject()["tool"]["mypy"]
    assert set(mypy["packages"]) == {*PACKAGES, "bench", "tests"} and mypy["strict"] is True


def test_model_exports() -> None:
    import model

    names = ("MiniCPMVConfig", "MiniCPMVImageProcessor", "MiniCPMVProcessor", "MiniCPMVForConditionalGeneration")
    for name in names:
        assert getattr(model, name).__name__ == name
