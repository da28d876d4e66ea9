"""The training of the encoder, run for real on the tiny model."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from model import MiniCPMVProcessor
from rlaif.config import EncoderConfig, TrainingConfig
from rlaif.config.load import load_config_of
from tests.support import ROOT
from tests.support.captions.squares import square_rows, write_table
from tests.support.kills.trained import leave_as_killed
from tests.support.tiny import load_model
from training.encoder.__main__ import main
from training.encoder.pictures import Collator, Pictures
from training.encoder.scores import TextScorer, recall_of, text_vectors
from training.encoder.stage import next_command
from training.encoder.trainer import training_arguments


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The table of squares, with a row each without texts, with a blank text, and without a picture."""
    rows = square_rows()
    broken = [
        {**rows[0], "texts": []},
        {**rows[0], "texts": ["a text of dropped rows", " "]},
        {"image": {"bytes": b"no picture", "path": None}, "texts": ["red square", "another one"]},
        {"image": None, "texts": ["red square"]},
    ]
    return write_table(tmp_path_factory.mktemp("tables") / "squares.parquet", [*broken, *rows])


def command(folder: Path, trainer: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    """A configuration file, and the command line that names it, with the run folder `folder/run`."""
    settings = {
        "per_device_train_batch_size": 16,
        "max_steps": 2,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "bf16": False,
        "disable_tqdm": True,
        **(trainer or {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "encoder.yaml").write_text(json.dumps({**changes, "trainer": settings}))
    return ["--config", str(folder / "encoder.yaml"), "--run", str(folder / "run")]


def weights(model: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(model / "model.safetensors"))


@torch.no_grad()
def found(folder: Path, table: str) -> float:
    """The share of true texts found by the model in a folder, all texts of the table being candidates."""
    model, processor = load_model(folder)
    pictures = Pictures([table], processor)
    scorer = TextScorer(model, text_vectors(model.get_input_embeddings().weight, pictures.texts.ids))
    batch = Collator(processor.image_processor.norm_mean, processor.image_processor.norm_std)(pictures.pictures)
    labels = batch.pop("labels")
    return recall_of(scorer.scores(**batch), labels).item()


def test_the_encoder_and_kv_proj_train_and_nothing_else(
    tiny_model: Path, squares: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path, model=str(tiny_model), data=[squares])) == 0
    run = tmp_path / "run"
    before, after = weights(tiny_model), weights(run / "model")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith("vpm.") or name == "resampler.kv_proj.weight"}
    assert MiniCPMVProcessor.from_pretrained(run / "model").image_processor.slice_mode is False
    assert not any((run / "model").glob("*.bin")), "a pickle"
    out = capsys.readouterr().out
    assert "144 pictures, 20 different texts; 4 rows dropped" in out
    assert f'next     make pretrain STAGE=1 SET="model={run / "model"}"' in out
    dropped = pd.read_parquet(run / "dropped.parquet")
    assert dropped["row_id"].tolist() == [f"{squares}:{row}" for row in range(4)]
    assert dropped["reason"].tolist() == ["unusable_texts"] * 2 + ["unusable_image"] * 2
    assert dropped["detail"].tolist()[:2] == ["the picture has no texts", "a text is ' '"]
    metrics = json.loads((run / "metrics.json").read_text())
    log = json.loads((run / "training" / "log.json").read_text())
    steps = [entry for entry in log if "loss" in entry]
    assert metrics["training"] == {
        "stage": "encoder",
        "rows": 144,
        "texts": 20,
        "steps": 2,
        "last_loss": steps[-1]["loss"],
        "last_recall": steps[-1]["recall"],
    }
    assert steps[0]["scale"] != pytest.approx(10, abs=1e-9) and steps[0]["bias"] != -10
    assert main(command(tmp_path, model=str(tiny_model), data=[squares])) == 0
    assert "training: nothing to do" in capsys.readouterr().out
    assert main(command(tmp_path, model=str(tiny_model), data=[squares], seed=1)) == 2
    assert "was made with other settings (seed: 0 -> 1; " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
def test_training_raises_the_share_of_true_texts_that_are_found(
    bf16: bool, tiny_model: Path, squares: str, tmp_path: Path
) -> None:
    trainer = {"max_steps": 150, "per_device_train_batch_size": 48, "learning_rate": 3e-3, "bf16": bf16}
    arguments = command(tmp_path, trainer, model=str(tiny_model), data=[squares], whiten_patches=True)
    assert main(arguments) == 0
    before, after = found(tiny_model, squares), found(tmp_path / "run" / "model", squares)
    assert before < 0.25 and after > 0.75, (before, after)


@pytest.mark.slow
def test_a_stopped_training_resumes_to_the_same_weights(
    tiny_model: Path, squares: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nine steps an epoch: the checkpoint from which it resumes is in the middle of the second."""
    common: dict[str, Any] = {"model": str(tiny_model), "data": [squares], "whiten_patches": True}
    trainer = {"save_strategy": "steps", "save_steps": 12, "max_steps": 24}
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert main(command(straight, trainer, **common)) == 0
    assert main(command(stopped, trainer, **common)) == 0
    run = stopped / "run"
    leave_as_killed(run, 24)
    capsys.readouterr()
    assert main(command(stopped, trainer, **common)) == 0
    out = capsys.readouterr().out
    assert "resumes from" in out and "checkpoint-12" in out
    first, second, start = (weights(folder) for folder in (straight / "run/model", run / "model", tiny_model))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert not torch.equal(first["resampler.kv_proj.weight"], start["resampler.kv_proj.weight"])
    assert len(pd.read_parquet(run / "dropped.parquet")) == 4, "recorded once, although they were dropped twice"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ["nowhere.parquet"]}, "no training table nowhere.parquet; `data` takes parquet files"),
        ({"data": ["columns"]}, "has the columns image, caption, but not texts; a table of the encoder has image"),
        (
            {"data": ["types"]},
            "has image of type .*string and texts of type .*string; a table of the encoder has image",
        ),
        ({"data": ["broken"]}, "no row of .* can be trained on; the first: the picture has no texts"),
        ({"data": ["pyproject.toml"]}, "pyproject.toml is not a readable parquet file"),
        ({"model": "nowhere"}, "no model folder nowhere; give a folder"),
        ({"model": "other"}, "is a model of type 'llava'; only MiniCPM-V .'minicpmv'. is trained here"),
        ({"whiten": True}, "unknown key 'whiten'; did you mean 'whiten_patches'"),
        ({"trainer": {"learning_rate": "much"}}, "trainer.learning_rate is 'much': Input should be a valid number"),
        ({"trainer": {"seed": 3}}, "trainer.seed cannot be set: set the top-level `seed`"),
        ({"trainer": {"eval_strategy": "steps"}}, "trainer.eval_strategy cannot be set: there are no pictures for val"),
        ({"trainer": {"eval_on_start": True}}, "trainer.eval_on_start cannot be set: there are no pictures for valid"),
        (
            {"trainer": {"gradient_checkpointing": True}},
            "cannot be set: the encoder does not support it; lower per_dev",
        ),
        ({"trainer": {"neftune_noise_alpha": 5}}, "trainer.neftune_noise_alpha cannot be set: its noise is for"),
    ],
)
def test_bad_input_is_an_error_of_one_line(
    changes: dict[str, Any],
    message: str,
    tiny_model: Path,
    squares: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pd.DataFrame({"image": ["a"], "caption": ["b"]}).to_parquet(tmp_path / "columns.parquet")
    pd.DataFrame({"image": ["a"], "texts": ["b"]}).to_parquet(tmp_path / "types.parquet")
    write_table(tmp_path / "broken.parquet", [{**square_rows()[0], "texts": None}])
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    if changes.get("data") in (["columns"], ["types"], ["broken"]):
        changes = {"data": [str(tmp_path / f"{changes['data'][0]}.parquet")]}
    if changes.get("model") == "other":
        changes = {"model": str(tmp_path)}
    assert main(command(tmp_path, **{"model": str(tiny_model), "data": [squares], **changes})) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert re.search(message, line), line
    assert not (tmp_path / "run" / "model").exists()


def test_the_configuration_of_the_embedded_encoder_and_what_starts_from_it(tmp_path: Path) -> None:
    path = ROOT / "configs" / "training" / "encoder.yaml"
    config = load_config_of(EncoderConfig, path)
    assert training_arguments(config, tmp_path).lr_scheduler_type == "cosine" and config.whiten_patches
    pretraining = load_config_of(TrainingConfig, path.with_name("pretrain-1.yaml"))
    assert next_command(Path(pretraining.model).parent) == "make pretrain STAGE=1"
    assert next_command(Path("runs/mine")) == 'make pretrain STAGE=1 SET="model=runs/mine/model"'
