"""Which model leaves for a device, and what is refused."""

import json
from pathlib import Path

import pytest

from edge.policy import policy_folder, run_policy
from rlaif.config import Config
from rlaif.errors import ModelError


def model_folder(folder: Path, **settings: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "minicpmv", "version": "2.5", **settings}))
    (folder / "model.safetensors").write_bytes(b"x")
    return folder


def config_of(model: Path) -> Config:
    return Config.model_validate({"policy": {"model": str(model)}, "labeler": {"model": "l"}})


def test_the_aligned_policy_comes_before_that_of_the_configuration(tmp_path: Path) -> None:
    config = config_of(model_folder(tmp_path / "start"))
    aligned = model_folder(tmp_path / "run" / "policy", extra="1")
    section, revision = run_policy(config, tmp_path / "run")
    assert policy_folder(section) == aligned
    assert revision != run_policy(config, tmp_path / "empty")[1]


def test_without_an_aligned_policy_the_configured_one_is_taken_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = model_folder(tmp_path / "start")
    section, _ = run_policy(config_of(start), tmp_path / "run")
    assert section.model == str(start)
    assert (
        f"{tmp_path / 'run'} has no aligned policy; takes the one of the configuration, {start}"
        in capsys.readouterr().out
    )


def test_both_versions_are_taken_and_no_other(tmp_path: Path) -> None:
    run_policy(config_of(model_folder(tmp_path / "2.6", version="2.6")), tmp_path / "run")
    with pytest.raises(ModelError, match=r"is MiniCPM-V 4\.5, expected MiniCPM-V 2\.5 or 2\.6; give such a policy"):
        run_policy(config_of(model_folder(tmp_path / "4.5", version="4.5")), tmp_path / "run")
    with pytest.raises(ModelError, match="is a model of type 'llava', expected MiniCPM-V"):
        run_policy(config_of(model_folder(tmp_path / "other", model_type="llava")), tmp_path / "run")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "start")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"it has no \*\.safetensors"):
        run_policy(config_of(folder), tmp_path / "run")
