"""Revision of a model: a hash of a folder, the commit of a hub id, or an error if there is no model."""

from pathlib import Path

import pytest

from rlaif.config import ModelSection
from rlaif.errors import ModelError
from rlaif.inference.revision import model_revision, pin_model


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_the_revision_of_a_folder_depends_on_its_content(model_folder: Path) -> None:
    section = ModelSection(model=str(model_folder))
    revision = model_revision(section)
    assert pin_model(section) == (section, revision)
    assert len(revision) == 16
    (model_folder / "notes.txt").write_text("not part of the model")
    assert model_revision(ModelSection(model=str(model_folder))) == revision
    (model_folder / "model.safetensors").write_bytes(b"weightS")
    assert model_revision(ModelSection(model=str(model_folder))) != revision


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("config.json", "is not a model folder: it has no config.json"),
        ("model.safetensors", "it has no *.safetensors; convert its weights"),
    ],
)
def test_folders_that_are_not_a_model(model_folder: Path, missing: str, expected: str) -> None:
    (model_folder / missing).unlink()
    with pytest.raises(ModelError) as caught:
        model_revision(ModelSection(model=str(model_folder)))
    assert expected in str(caught.value)


@pytest.mark.parametrize("name", ["runs/demo/policy", "./policy", "/nowhere/policy", "policy"])
def test_missing_folders(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=rf"no model folder {name}; give a folder with config.json"):
        model_revision(ModelSection(model=name))


def test_hub_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert model_revision(ModelSection(model="owner/name", revision=commit)) == commit
    unreachable = "no-such-owner/no-such-model is not a folder, and the hub cannot be reached; connect this machine"
    for revision in ("main", None):
        with pytest.raises(ModelError, match=unreachable):
            model_revision(ModelSection(model="no-such-owner/no-such-model", revision=revision))


def test_a_hub_without_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise OSError("404")

    monkeypatch.setattr("huggingface_hub.snapshot_download", missing)
    with pytest.raises(ModelError, match=r"is neither a folder nor found on the hub \(OSError\); correct the name, or"):
        model_revision(ModelSection(model="no-such-owner/no-such-model"))
