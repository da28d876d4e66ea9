"""What makes a saved model self-contained: remote code, the tokenizer's files, end tokens. Weights play no part."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlaif.config import ModelSection
from rlaif.storage.files import read_json, write_json
from rlaif.storage.model_folder import READ_WHOLE, complete_model

CODE = {"AutoConfig": "configuration_x.XConfig", "AutoModel": "modeling_x.X"}
TOKENIZER_CODE = {"AutoTokenizer": ["modeling_x.XTokenizer", None]}
ADDED = {"0": {"content": "!", "special": True}, "9": {"content": "<end>", "special": True}}


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A start model with remote code in three files, of which two are named."""
    folder = tmp_path / "start"
    folder.mkdir()
    write_json(folder / "config.json", {"auto_map": CODE, "model_type": "x"})
    tokenizer = {
        "auto_map": TOKENIZER_CODE,
        "pad_token": "!",
        "added_tokens_decoder": ADDED,
        "tokenizer_class": "XFast",
    }
    write_json(folder / "tokenizer_config.json", tokenizer)
    write_json(folder / "special_tokens_map.json", {"pad_token": {"content": "!", "lstrip": False}, "eos_token": "<s>"})
    vocabulary = {"model": {"merges": ["a b"]}, "added_tokens": list(ADDED.values())}
    write_json(folder / "tokenizer.json", vocabulary)
    for name in ("configuration_x", "modeling_x", "beside"):
        (folder / f"{name}.py").write_text(f"raise RuntimeError('{name}')\n")
    return folder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """What transformers saves of it."""
    folder = tmp_path / "saved"
    folder.mkdir()
    write_json(folder / "config.json", {"auto_map": CODE, "model_type": "x"})
    write_json(folder / "tokenizer_config.json", {"auto_map": TOKENIZER_CODE, "tokenizer_class": "TokenizersBackend"})
    write_json(folder / "tokenizer.json", {"model": {"merges": [["a", "b"]]}, "added_tokens": []})
    write_json(folder / "preprocessor_config.json", {"auto_map": {"AutoProcessor": "modeling_x.XProcessor"}})
    write_json(folder / "processor_config.json", {"image_processor": {"auto_map": {"AutoProcessor": "modeling_x.P"}}})
    write_json(folder / "generation_config.json", {"_from_model_config": True, "eos_token_id": 8})
    return folder


def tokenizer() -> Any:
    """It declares "!" text, and pads with another token."""
    added = {0: SimpleNamespace(content="!", special=False), 9: SimpleNamespace(content="<end>", special=True)}
    return SimpleNamespace(added_tokens_decoder=added, pad_token="<end>")


def code_of(folder: Path) -> set[str]:
    return {file.name for file in folder.glob("*.py")}


def auto_maps(folder: Path) -> list[Any]:
    return [values["auto_map"] for file in sorted(folder.glob("*.json")) if "auto_map" in (values := read_json(file))]


def test_remote_code_is_copied_and_the_files_stay_as_published(
    start: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete_model(saved, ModelSection(model=str(start)), tokenizer(), 9)
    assert code_of(saved) == {"configuration_x.py", "modeling_x.py", "beside.py"}
    assert (saved / "beside.py").read_text() == "raise RuntimeError('beside')\n"
    assert auto_maps(saved) == [CODE, {"AutoProcessor": "modeling_x.XProcessor"}, TOKENIZER_CODE]
    assert not (saved / "processor_config.json").exists()
    settings = read_json(saved / "tokenizer_config.json")
    assert settings["tokenizer_class"] == "XFast" and settings["pad_token"] == "<end>"
    assert settings.items() >= READ_WHOLE.items()
    assert read_json(saved / "tokenizer.json") == {
        "model": {"merges": ["a b"]},
        "added_tokens": [{"content": "!", "special": False}, {"content": "<end>", "special": True}],
    }
    assert {key: added["special"] for key, added in settings["added_tokens_decoder"].items()} == {"0": False, "9": True}
    roles = read_json(saved / "special_tokens_map.json")
    assert roles == {"pad_token": {"content": "<end>", "lstrip": False}, "eos_token": "<s>"}
    assert read_json(saved / "generation_config.json") == {"eos_token_id": [8, 9]}
    assert not capsys.readouterr().out


def test_without_the_code_auto_map_is_removed_and_this_is_said(
    start: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (start / "modeling_x.py").unlink()
    complete_model(saved, ModelSection(model=str(start)), tokenizer(), 9)
    assert code_of(saved) == set() and auto_maps(saved) == []
    assert not read_json(saved / "tokenizer_config.json").keys() & READ_WHOLE.keys()
    assert f"{start} names remote code, but has no modeling_x.py: auto_map is left out" in capsys.readouterr().out


def test_the_code_of_a_hub_model_is_downloaded_and_named_without_its_repository(
    start: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefixed = {kind: f"owner/name--{reference}" for kind, reference in CODE.items()}
    write_json(saved / "config.json", {"auto_map": {**prefixed, "AutoModelForCausalLM": "other/name--modeling_y.Y"}})
    calls: list[tuple[Any, ...]] = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        calls.append((name, revision, allow_patterns))
        return str(start)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    complete_model(saved, ModelSection(model="owner/name", revision="abc"), tokenizer(), 9)
    assert calls == [("owner/name", "abc", ["*.json", "*.py"])], "weights are not downloaded again"
    assert auto_maps(saved)[0] == {**CODE, "AutoModelForCausalLM": "other/name--modeling_y.Y"}
    assert code_of(saved) == code_of(start)


def test_a_model_without_remote_code_gets_end_tokens_alone(start: Path, tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    write_json(tmp_path / "saved" / "config.json", {"model_type": "x"})
    write_json(tmp_path / "saved" / "processor_config.json", {"processor_class": "X"})
    (start / "tokenizer_config.json").unlink()
    (start / "special_tokens_map.json").unlink()
    for _ in range(2):  # the second time as the start of another round
        complete_model(tmp_path / "saved", ModelSection(model=str(start)), tokenizer(), 9)
        assert read_json(tmp_path / "saved" / "generation_config.json") == {"eos_token_id": [9]}
    assert not code_of(tmp_path / "saved") and (tmp_path / "saved" / "processor_config.json").is_file()


def test_tokenizer_and_end_tokens_of_other_models_stay_as_saved(start: Path, saved: Path) -> None:
    before = {name: (saved / name).read_bytes() for name in ("tokenizer_config.json", "generation_config.json")}
    complete_model(saved, ModelSection(model=str(start)), tokenizer(), None)
    assert {name: (saved / name).read_bytes() for name in before} == before
    assert code_of(saved) == code_of(start)


def test_the_list_of_older_tokenizers_names_code_too(start: Path, saved: Path) -> None:
    (saved / "tokenizer_config.json").unlink()
    settings = {"auto_map": ["owner/name--modeling_x.XTokenizer", None], "pad_token": "!"}
    write_json(start / "tokenizer_config.json", settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(start))
        complete_model(saved, ModelSection(model="owner/name"), tokenizer(), 9)
    assert read_json(saved / "tokenizer_config.json")["auto_map"] == ["modeling_x.XTokenizer", None]
