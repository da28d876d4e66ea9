"""Files and folders that are written whole or not at all, hashes, and a lock on a folder."""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from rlaif.errors import InputError, OutsideFolderError


def parquet_files(path: Path, setting: str) -> dict[str, Path]:
    """A parquet file, or all below a folder, in order, by the names that a person finds them by.

    Errors: InputError if there is none, naming the `setting` that gives the path.
    """
    files = {str(file.relative_to(path)): file for file in sorted(path.rglob("*.parquet"))}
    if path.is_file():
        files = {path.name: path}
    if not files:
        raise InputError(f"no parquet file at {path}; {setting} names a .parquet file or a folder of them")
    return files


def file_inside(name: str, folders: Sequence[Path]) -> Path:
    """The regular file that `name` resolves to, symbolic links followed; relative names start at the first folder.

    Errors: OutsideFolderError if it lies in none of the folders; OSError if there is no such file.
    """
    try:
        path = (folders[0] / name).resolve()
    except (ValueError, RuntimeError) as error:  # a null byte; circular links
        raise FileNotFoundError(errno.ENOENT, str(error), name) from error
    if not any(path.is_relative_to(folder.resolve()) for folder in folders):
        raise OutsideFolderError(f"{name} resolves to {path}, which is outside {folders[0]}")
    if not path.is_file():  # reading a pipe would block
        raise FileNotFoundError(errno.ENOENT, "no such file", name)
    return path


def make_id(*parts: str) -> str:
    """The first 16 hex digits of the SHA-256 of the parts, joined by the unit separator: equal parts, equal id."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there takes the place of `path` when the block ends well."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """As `atomic_write`, of a folder, which is not there yet: whoever writes it makes it."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a try that was killed
    yield temporary
    shutil.rmtree(path, ignore_errors=True)  # whole, but its stage was killed before it could finish
    os.replace(temporary, path)


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@cache
def lock(file: Path) -> int:
    """Keep other processes out of the folder of a file until this one ends, however it ends: no two hold the same file.

    Returns its descriptor. Errors: InputError.
    """
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InputError(f"another process is at work in {file.parent}; wait for it to end, or stop it") from error
    return descriptor
