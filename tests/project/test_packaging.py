"""What an installation gets: pinned versions, the packages and their files, the names that `model` exports."""

import tomllib
from typing import Any

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
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package).glob(pattern)
    }
    assert data == installed


def test_types_are_checked_strictly_in_every_package() -> None:
    mypy = pyproject()["tool"]["mypy"]
    assert set(mypy["packages"]) >= set(PACKAGES)


def test_model_exports() -> None:
    import model

    names = ("MiniCPMVConfig", "MiniCPMVImageProcessor", "MiniCPMVProcessor", "MiniCPMVForConditionalGeneration")
    for name in names:
        assert getattr(model, name).__name__ == name
