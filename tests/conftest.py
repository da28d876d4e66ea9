"""Fixtures that several tests share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the released layout with a random MiniCPM-V of about a million parameters, float32."""
    from tests.tiny import save_tiny_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_model(folder)
    return folder


@pytest.fixture
def instructions(tmp_path: Path) -> str:
    """A text file with two instructions."""
    (tmp_path / "ask.txt").write_text("Describe it.\n\n  What is there?  \n")
    return str(tmp_path / "ask.txt")
