"""Which model leaves for a device, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import pytest

from edge.policy import Policy, check_exported, load_processor
from rlaif.config import Config, ModelSection
from rlaif.errors import InputError, ModelError
from rlaif.inference.revision import model_revision


def model_folder(folder: Path, **settings: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "minicpmv", "version": "2.5", **settings}))
    (folder / "model.safetensors").write_bytes(b"x")
    return folder


def config_of(model: Path) -> Config:
    return Config.model_validate({"policy": {"model": str(model)}, "labeler": {"model": "l"}})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_the_aligned_policy_comes_before_that_of_the_configuration(tmp_path: Path, run: Path) -> None:
    config = config_of(model_folder(tmp_path / "start"))
    start = Policy.of(config, run)
    assert (start.folder, start.name) == (tmp_path / "start", "start")
    aligned = model_folder(run / "policy", extra="1")
    policy = Policy.of(config, run)
    assert (policy.folder, policy.name) == (aligned, "run")
    assert policy.revision == model_revision(ModelSection(model=str(aligned))) != start.revision


def test_without_an_aligned_policy_the_configured_one_is_taken_and_named(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = model_folder(tmp_path / "start")
    Policy.of(config_of(start), run)
    assert f"{run} has no aligned policy; takes the one of the configuration, {start}" in capsys.readouterr().out


def test_weights_are_read_again_only_when_their_file_has_changed(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, weights = config_of(tmp_path / "start"), model_folder(tmp_path / "start") / "model.safetensors"
    first = Policy.of(config, run).revision
    with monkeypatch.context() as patched:
        patched.setattr("edge.policy.model_revision", lambda section: "read again")
        assert Policy.of(config, run).revision == first
    weights.write_bytes(b"y")
    os.utime(weights, ns=(0, 0))
    assert Policy.of(config, run).revision != first


def test_both_versions_are_taken_and_no_other(tmp_path: Path, run: Path) -> None:
    Policy.of(config_of(model_folder(tmp_path / "2.6", version="2.6")), run)
    with pytest.raises(ModelError, match=r"is MiniCPM-V 4\.5, expected MiniCPM-V 2\.5 or 2\.6; give such a policy"):
        Policy.of(config_of(model_folder(tmp_path / "4.5", version="4.5")), run)
    with pytest.raises(ModelError, match="is a model of type 'llava', expected MiniCPM-V"):
        Policy.of(config_of(model_folder(tmp_path / "other", model_type="llava")), run)


def test_a_folder_without_weights_and_a_run_that_is_not_there_are_refused(tmp_path: Path, run: Path) -> None:
    folder = model_folder(tmp_path / "start")
    with pytest.raises(InputError, match=r"runs/typo is not a folder, expected that of a run; correct RUN="):
        Policy.of(config_of(folder), Path("runs/typo"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"it has no \*\.safetensors"):
        Policy.of(config_of(folder), run)


def test_damaged_files_are_one_line(tmp_path: Path, run: Path, tiny_model: Path) -> None:
    folder = model_folder(tmp_path / "start")
    (folder / "config.json").write_text('{"model_type": ')
    with pytest.raises(ModelError, match=r"config.json is damaged \(Expecting value.*\), .*; copy the model") as cut:
        Policy.of(config_of(folder), run)
    shutil.copytree(tiny_model, tmp_path / "cut")
    (tmp_path / "cut" / "tokenizer.json").write_text('{"version": "1.')
    with pytest.raises(ModelError, match=r"the tokenizer or the image processor of .* cannot be read \(.+\)") as other:
        load_processor(tmp_path / "cut")
    assert "\n" not in f"{cut.value}{other.value}"


def test_an_export_of_another_policy_is_refused() -> None:
    policy, file = Policy(Path("runs/a/policy"), "a", "f00d"), Path("runs/a/edge/vision.onnx")
    check_exported(file, "f00d", policy, "make edge-vision RUN=runs/a")
    for revision, said in (("beef", r"\(beef\)"), (None, r"\(it does not say which\)")):
        with pytest.raises(
            InputError, match=rf"another policy {said}, .* now \(f00d\); run `make edge-vision RUN=runs/a`"
        ):
            check_exported(file, revision, policy, "make edge-vision RUN=runs/a")
