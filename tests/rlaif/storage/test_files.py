"""Files: names that stay inside a folder, folders that are replaced whole, ids, locks."""

import fcntl
import os
from pathlib import Path

import pytest

from rlaif.errors import InputError, OutsideFolderError
from rlaif.storage.files import atomic_folder, file_inside, locked, make_id, read_json, write_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file, and outside of it a file and links to that file and its folder."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "secret.png").touch()
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "private" / "secret.png")
    (tmp_path / "images" / "folder").symlink_to(tmp_path / "private")
    (tmp_path / "images" / "circle.png").symlink_to(tmp_path / "images" / "circle.png")
    (tmp_path / "images" / "inside.png").symlink_to("a.png")
    os.mkfifo(tmp_path / "images" / "pipe.png")
    return tmp_path / "images"


@pytest.mark.parametrize("name", ["a.png", "./a.png", "../images/a.png", "inside.png"])
def test_names_of_files_inside_a_folder(folder: Path, name: str) -> None:
    assert file_inside(name, [folder]) == folder / "a.png"
    assert file_inside(str(folder / name), [folder]) == folder / "a.png"


@pytest.mark.parametrize("name", ["../private/secret.png", "link.png", "folder/secret.png", "/etc/passwd", "/dev/zero"])
def test_names_that_lead_outside_a_folder(folder: Path, name: str) -> None:
    with pytest.raises(OutsideFolderError, match=rf"{name} resolves to /.*, which is outside {folder}"):
        file_inside(name, [folder])
    assert issubclass(OutsideFolderError, InputError)


def test_a_second_folder_can_be_allowed(folder: Path) -> None:
    private = folder.parent / "private"
    for name in ("../private/secret.png", "link.png", "folder/secret.png"):
        assert file_inside(name, [folder, private]) == private / "secret.png"
    with pytest.raises(OutsideFolderError):
        file_inside("../other.png", [folder, private])


@pytest.mark.parametrize("name", ["none.png", "", ".", "pipe.png", "circle.png", "a\0.png", "a.png/b", "a" * 300])
def test_names_without_a_regular_file(folder: Path, name: str) -> None:
    with pytest.raises(OSError) as caught:
        file_inside(name, [folder])
    assert caught.value.strerror


def test_a_folder_linked_as_a_whole_is_followed(folder: Path) -> None:
    (folder.parent / "linked").symlink_to(folder)
    assert file_inside("a.png", [folder.parent / "linked"]) == folder / "a.png"


def test_ids_are_the_start_of_a_sha256_and_depend_on_where_parts_end() -> None:
    # printf 'a\x1fb' | sha256sum
    assert make_id("a", "b") == "f04cdced9736a69d"
    assert make_id("ab") != make_id("a", "b") != make_id("a", "b", "")


def test_a_folder_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    folder, leftover = tmp_path / "policy", tmp_path / ".policy.tmp"
    leftover.mkdir()
    (leftover / "of a killed try").touch()
    with atomic_folder(folder) as temporary:
        temporary.mkdir()
        (temporary / "first").touch()
        assert not folder.exists()
    with pytest.raises(OSError, match="disk full"), atomic_folder(folder) as temporary:
        temporary.mkdir()
        raise OSError("disk full")
    assert [file.name for file in folder.iterdir()] == ["first"]
    with atomic_folder(folder) as temporary:
        temporary.mkdir()
        (temporary / "second").touch()
    assert [file.name for file in folder.iterdir()] == ["second"] and not leftover.exists()


def test_json_files(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"figures": [1, 0.5, None]})
    assert read_json(tmp_path / "a.json") == {"figures": [1, 0.5, None]}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(InputError, match=r"none\.json is missing; run the stage that writes it"):
        read_json(tmp_path / "none.json")
    for content in (b'{"figures":', b"\xff"):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.json is not valid JSON \(.*\); delete it, or use another RUN="):
            read_json(tmp_path / "a.json")


def test_a_lock_is_held_during_the_block_only(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with locked(file), file.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with locked(file):
        pass
