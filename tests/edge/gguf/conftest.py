"""What the tests of GGUF files need."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def gguf_package() -> None:
    """They are skipped without the packages of requirements/edge.txt."""
    pytest.importorskip("gguf", reason="the packages of edge/ are not installed; run `make edge-runtime`")
