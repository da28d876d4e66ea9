"""One export of the embedded policy for all tests that need it; they are skipped where llama.cpp is not compiled."""

from pathlib import Path
from typing import Any

import pytest

from edge.settings import Settings, write_settings
from tests.support import ROOT
from tests.support.edge.original import OriginalModel, demo_config


@pytest.fixture(scope="session")
def edge_run(tmp_path_factory: pytest.TempPathFactory, llama_cpp: Any) -> Path:
    """A run folder without DPO: language models f16, Q8_0 and Q4_K_M, mmproj, and the vision part for the CPU."""
    from edge.gguf.export import export_gguf
    from edge.policy import Policy
    from edge.vision.export import ensure_vision

    run, config = tmp_path_factory.mktemp("edge") / "demo", demo_config()
    run.mkdir()
    export_gguf(config, run, ["f16", "Q8_0", "Q4_K_M"])
    ensure_vision(config, Policy.of(config, run), run, "cpu")
    write_settings(run / "edge", Settings(threads=1))  # the other cores have tests of their own
    return run


@pytest.fixture(scope="session")
def original() -> OriginalModel:
    """The embedded policy itself."""
    return OriginalModel(ROOT / "assets" / "policy")
