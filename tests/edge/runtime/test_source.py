"""The source package is unpacked whole or not at all."""

import tarfile
from pathlib import Path

import pytest

from edge.runtime.source import unpack
from rlaif.errors import InputError


def pack(folder: Path, name: str) -> Path:
    """An archive with one file of this name."""
    (folder / "file").write_text("source")
    with tarfile.open(folder / "package.tar.gz", "w:gz") as opened:
        opened.add(folder / "file", name)
    return folder / "package.tar.gz"


def test_the_vendored_folder_is_unpacked(tmp_path: Path) -> None:
    unpack(pack(tmp_path, "llama_cpp_python-1/vendor/llama.cpp/CMakeLists.txt"), tmp_path / "1")
    assert (tmp_path / "1" / "CMakeLists.txt").read_text() == "source"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "package.tar.gz", "1"}


def test_another_archive_is_refused(tmp_path: Path) -> None:
    message = r"package\.tar\.gz is not a source package of llama-cpp-python .*expected a folder vendor/llama\.cpp"
    with pytest.raises(InputError, match=message):
        unpack(pack(tmp_path, "other-1/README"), tmp_path / "1")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "package.tar.gz"}


def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path, "llama_cpp_python-1/vendor/llama.cpp/CMakeLists.txt")
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(InputError, match="is not a source package"):
        unpack(archive, tmp_path / "1")
    assert not (tmp_path / "1").exists()
