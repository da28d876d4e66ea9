"""Images encoded once for all epochs and runs: the same losses, nothing twice, one line where it cannot be."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dpo import vision_cache
from dpo.policy import check_policy
from dpo.stage import run_dpo
from dpo.vision_cache import frozen_vision, size_in_words
from model import MiniCPMVImageProcessor
from rlaif.config import DpoSection
from rlaif.errors import ConfigError, InputError
from rlaif.storage.run import Run
from tests.support.alignment import align, config_of
from tests.support.pair_rows import pair_row, varied_pairs
from tests.support.tiny import noise_image

ROWS = [*varied_pairs(6), pair_row("text", "is it red", "yes", "no", None)]  # four images, and a pair without one


@pytest.mark.parametrize("size", [(56, 56), (112, 56), (40, 90), (300, 41), (41, 300), (500, 333), (1, 90)])
def test_view_sizes_are_those_of_the_slices(size: tuple[int, int]) -> None:
    processor = MiniCPMVImageProcessor(scale_resolution=84)
    assert torch.equal(processor.view_sizes(size), processor.slice(noise_image(size))[1])


def test_what_no_training_changes() -> None:
    sections: list[dict[str, Any]] = [
        {"method": "full", "freeze": ["vision"]},
        {"method": "full", "freeze": ["vision", "resampler"]},
        {"method": "full", "freeze": ["llm", "resampler"]},
        {"method": "lora"},
        {"method": "lora", "lora": {"train_resampler": True}},
    ]
    kinds = [frozen_vision(DpoSection.model_validate(section)) for section in sections]
    assert kinds == ["states", "features", "no", "features", "states"]


def losses(run: Path) -> list[float]:
    return [entry["loss"] for entry in json.loads((run / "dpo" / "log.json").read_text()) if "loss" in entry]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were written."""
    names: list[str] = []
    write = vision_cache.VisionCache.write

    def counted(self: Any, image: bytes, *rest: Any) -> None:
        write(self, image, *rest)
        names.append(self.file(image).name)

    monkeypatch.setattr(vision_cache.VisionCache, "write", counted)
    return names


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"method": "full"},
        {"method": "full", "shared_prefix": False},
        {"method": "full", "freeze": ["vision", "resampler"], "bf16": True},
        {"method": "lora", "lora": {"dropout": 0.0, "train_resampler": True}, "precompute_ref_log_probs": True},
    ],
)
def test_losses_are_the_same_and_each_image_is_encoded_once(
    tiny_model: Path, tmp_path: Path, encoded: list[str], settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"bf16", "precompute_ref_log_probs"}
    trainer = {"num_train_epochs": 2, "max_steps": -1, **{key: settings[key] for key in names & settings.keys()}}
    dpo = {key: settings[key] for key in settings.keys() - names}
    without = align(tmp_path / "without", config_of(tiny_model, trainer, **dpo), ROWS)
    kept = {**dpo, "cache_vision": str(tmp_path / "cache")}
    runs = [align(tmp_path / name, config_of(tiny_model, trainer, **kept), ROWS) for name in ("first", "second")]
    tolerance = 2e-2 if "bf16" in settings else 1e-5
    assert losses(runs[0]) == pytest.approx(losses(without), abs=tolerance) and len(losses(without)) == 9
    assert losses(runs[1]) == losses(runs[0])
    assert len(encoded) == len(set(encoded)) == 4  # by the first run, for the second too
    printed = capsys.readouterr().out
    assert "of 4 images; 4 are missing and take" in printed and "of 4 images; 0 are missing" in printed
    (folder,) = (tmp_path / "cache").iterdir()
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert sorted(file.name for file in files) == sorted(encoded)
    tensors = [load_file(file)["encoded"] for file in files]
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16 if "bf16" in settings else torch.float32}
    assert f"take {size_in_words(sum(tensor.nbytes for tensor in tensors))} of" in printed


@pytest.mark.slow
def test_a_killed_stage_encodes_what_is_left(
    tiny_model: Path, tmp_path: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tiny_model, cache_vision=str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        write = vision_cache.VisionCache.write

        def killed(self: Any, *rest: Any) -> None:
            if len(encoded) == 3:
                raise KeyboardInterrupt
            write(self, *rest)

        patch.setattr(vision_cache.VisionCache, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            align(tmp_path / "run", config, ROWS)
    run_dpo(Run(tmp_path / "run", config, "dpo"))
    assert len(encoded) == len(set(encoded)) == 4 and (tmp_path / "run" / "policy").is_dir()

    other = config_of(tiny_model, cache_vision=str(tmp_path / "cache"), freeze=["vision", "resampler"])
    align(tmp_path / "other", other, ROWS)
    assert len(encoded) == 8 and len(list((tmp_path / "cache").iterdir())) == 2  # other settings, another key


@pytest.mark.slow
def test_bad_input_is_one_line(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tiny_model, cache_vision=str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_000_000_000))
        with pytest.raises(InputError, match=r"needs .* MB for 4 images, and .* has 1 GB free, of which 1\.07 GB stay"):
            align(tmp_path / "run", config, ROWS)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    run_dpo(Run(tmp_path / "run", config, "dpo"))

    file = next((tmp_path / "cache").rglob("*.safetensors"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-4] + b"1234")
    with pytest.raises(InputError, match=r"damaged \(its bytes have changed since it was written\); delete it"):
        align(tmp_path / "changed", config, ROWS)
    file.write_bytes(whole[:20])
    with pytest.raises(InputError, match=r"is missing or damaged .*; delete it and run the same command"):
        align(tmp_path / "again", config, ROWS)

    with pytest.raises(ConfigError, match=r"is x, but the vision encoder trains \(dpo.freeze is \['llm'\]\)"):
        check_policy(config_of(tiny_model, cache_vision="x", freeze=["llm"]))
