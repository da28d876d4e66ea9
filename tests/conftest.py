"""Fixtures that several tests share, and how tests are spread over workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.engines import SharedEngines

# One thread a process, and a core a worker: models of a million parameters gain nothing from more, and threads of two
# workers that wait for each other cost many times what they do. Set before anything imports torch; children inherit it.
CORES = sorted(os.sched_getaffinity(0))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", str(CORES[WORKER % len(CORES)]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: workers take whole files in this order, and the short ones fill up the end."""
    slow_files = {item.path for item in items if item.get_closest_marker("engine") or item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow_files)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the released layout with a random MiniCPM-V of about a million parameters, float32."""
    from tests.support.tiny import save_tiny_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as MiniCPM-Llama3-V 2.5 is published, with tiny widths (70 MB)."""
    from tests.support.published.minicpmv import save_published

    folder = tmp_path_factory.mktemp("published") / "MiniCPM-Llama3-V-2_5"
    save_published(folder)
    return folder


@pytest.fixture(scope="session")
def engines() -> Iterator[SharedEngines]:
    """vLLM's engines of this test run."""
    from tests.support.engines import SharedEngines

    engines = SharedEngines()
    yield engines
    engines.close()


@pytest.fixture
def shared_engines(engines: SharedEngines, monkeypatch: pytest.MonkeyPatch) -> SharedEngines:
    """Stages that run in this process, from the project's folder, ask engines that other tests have opened."""
    from tests.support import ROOT

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("rlaif.inference.open.VllmEngine", engines)
    return engines


@pytest.fixture(scope="session")
def llama_cpp() -> Any:
    """The bindings over the build of llama.cpp for this machine; tests that need it are skipped without one."""
    from edge.runtime.installed import read_installed
    from edge.runtime.library import load

    if read_installed("host") is None:
        pytest.skip("no compiled llama.cpp: run `make edge-runtime`")
    return load()


@pytest.fixture
def instructions(tmp_path: Path) -> str:
    """A text file with two instructions."""
    (tmp_path / "ask.txt").write_text("Describe it.\n\n  What is there?  \n")
    return str(tmp_path / "ask.txt")


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A configuration for feedback on a scripted engine."""
    from tests.support.two_images import write_config

    return write_config(tmp_path)


@pytest.fixture
def run_path(config_file: Path, tmp_path: Path) -> Path:
    """A run folder with prompts and responses about two images."""
    from rlaif.config.load import load_config
    from tests.support.two_images import write_inputs

    write_inputs(load_config(config_file), tmp_path / "run")
    return tmp_path / "run"
