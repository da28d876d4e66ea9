"""Fixtures that several tests share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the released layout with a random MiniCPM-V of about a million parameters, float32."""
    from tests.support.tiny import save_tiny_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_model(folder)
    return folder


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
