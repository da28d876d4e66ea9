"""Builds on disk: found, missing, damaged, or not for this machine."""

import json
import platform
import re
from pathlib import Path
from typing import Any

import pytest

from edge.runtime.installed import LIBRARIES, PROGRAM, Installed, find_build, read_installed, write_installed
from rlaif.errors import InputError, ModelError

BUILD = Installed("host", platform.machine(), ("A", "B"), "1.2.3", "c++ 12", 4.5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole build, of the version that is installed."""
    monkeypatch.setattr("edge.runtime.installed.EDGE", tmp_path)
    monkeypatch.setattr("edge.runtime.installed.package_version", lambda: "1.2.3")
    folder = tmp_path / "runtimes" / "host"
    folder.mkdir(parents=True)
    for name in (*LIBRARIES, PROGRAM):
        (folder / name).touch()
    write_installed(BUILD, folder)
    return folder


def change(folder: Path, **values: Any) -> None:
    file = folder / "build.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_build_is_read_back(folder: Path) -> None:
    assert find_build("host") == BUILD
    assert BUILD.folder == folder and BUILD.program == folder / PROGRAM


def test_a_missing_build_says_how_to_get_it(folder: Path) -> None:
    assert read_installed("portable") is None
    with pytest.raises(
        ModelError, match=r"^no compiled llama.cpp in .*portable; .*run `make edge-runtime TARGET=portable`"
    ):
        find_build("portable")


def test_a_build_of_another_machine_is_refused(folder: Path) -> None:
    change(folder, machine="vax")
    with pytest.raises(ModelError, match=f"^the build host is for vax, and this machine is {platform.machine()}; run"):
        find_build("host")


def test_a_build_of_another_version_is_refused(folder: Path) -> None:
    change(folder, version="1.2.4")
    with pytest.raises(
        ModelError, match=r"is of llama-cpp-python 1\.2\.4, and 1\.2\.3 is installed; .*`make edge-runtime`"
    ):
        find_build("host")


@pytest.mark.parametrize("text", ["{", "[]", '{"target": "host"}'])
def test_a_damaged_description_is_refused(folder: Path, text: str) -> None:
    (folder / "build.json").write_text(text)
    with pytest.raises(InputError, match=re.escape(str(folder / "build.json"))):
        find_build("host")


def test_an_incomplete_build_is_refused(folder: Path) -> None:
    (folder / "libggml.so").unlink()
    with pytest.raises(InputError, match=r"has no libggml\.so; expected a whole build; remove it"):
        find_build("host")
