"""Files and folders: written whole or not at all, locked, hashed, and kept inside the folder that they belong to."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from rlaif.errors import InputError, OutsideFolderError


def parquet_files(path: Path, setting: str) -> dict[str, Path]:
    """The parquet file at `path`, or all parquet files below that folder in order, by their names relative to it.

    `setting` is the configuration key that gives the path. Errors: InputError if there is no such file.
    """
    files = {str(file.relative_to(path)): file for file in sorted(path.rglob("*.parquet"))}
    if path.is_file():
        files = {path.name: path}
    if not files:
        raise InputError(f"no parquet file at {path}; set {setting} to a .parquet file or a folder of them")
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


def files_digest(root: Path, names: Sequence[str] | None = None) -> str:
    """A digest over name and size of a file, or of the files below a folder, all or those named: 16 hex digits."""
    if names is not None:
        files = [root / name for name in names]
    else:
        files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    return make_id(*(f"{path.relative_to(root)} {path.stat().st_size}" for path in files))


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hex digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """The content of a JSON file. Errors: InputError if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; run the stage that writes it") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); delete it, or use another RUN=") from error


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; the file written there replaces `path` if the block ends without error."""
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
    """As `atomic_write`, for a folder, which the block creates."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process
    yield temporary
    shutil.rmtree(path, ignore_errors=True)  # complete, but its stage was killed before it was marked as finished
    os.replace(temporary, path)


@cache
def lock_until_exit(file: Path) -> int:
    """Lock a file for the rest of this process, which keeps other processes out of its folder.

    Returns the file descriptor. Errors: InputError if another process holds the lock.
    """
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InputError(f"another process is working in {file.parent}; wait for it to end, or stop it") from error
    return descriptor


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock on a file during the block; waits while another process or thread holds it."""
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
