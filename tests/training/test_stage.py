"""The stages of training, each run for real on the tiny model."""

import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from safetensors.torch import load_file

from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from rlaif.config import TrainingConfig
from tests.support.kills.launched import EVERYTHING, SHARDINGS, start, start_and_kill
from tests.support.kills.trained import leave_as_killed
from tests.support.tiny import noise_image
from training.__main__ import main
from training.conversations import Conversations, read_table
from training.sequences import Sequences

COLORS = ("red", "green", "blue")


def encoded(size: tuple[int, int], seed: int = 0) -> dict[str, Any]:
    buffer = io.BytesIO()
    noise_image(size, seed).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """captions: image and caption; chats: images and messages, with one row that holds no picture."""
    folder = tmp_path_factory.mktemp("tables")
    captions = [
        {"image": encoded((56, 42 + row), row), "caption": f"the {COLORS[row % 3]} star is in this picture"}
        for row in range(12)
    ]
    Dataset.from_list(captions).cast_column("image", Image()).to_parquet(folder / "captions.parquet")
    chats = [
        {
            "images": [encoded((112, 70), row)] if row % 4 else [],
            "messages": [
                {"role": "user", "content": "are there red circle"},
                {"role": "assistant", "content": "yes" if row % 2 else "no there is a blue square"},
            ],
        }
        for row in range(12)
    ]
    chats[1]["images"] = [{"bytes": b"no picture", "path": None}]
    message = {"role": Value("string"), "content": Value("string")}
    features = Features({"images": List(Image(decode=False)), "messages": List(message)})
    Dataset.from_list(chats, features=features).to_parquet(folder / "chats.parquet")
    return {"captions": str(folder / "captions.parquet"), "chats": str(folder / "chats.parquet")}


def command(folder: Path, trainer: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    """A configuration file, and the command line that names it, with the run folder `folder/run`."""
    values = {"packing": "best_fit", "sequence_length": 192, **changes}
    values["trainer"] = {
        "per_device_train_batch_size": 2,
        "max_steps": 2,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "bf16": False,
        "disable_tqdm": True,
        **(trainer or {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stage.yaml").write_text(json.dumps(values))
    return ["--config", str(folder / "stage.yaml"), "--run", str(folder / "run")]


def log(folder: Path) -> list[dict[str, Any]]:
    """What Trainer logged."""
    entries: list[dict[str, Any]] = json.loads((folder / "run" / "training" / "log.json").read_text())
    return entries


def losses(folder: Path) -> list[float]:
    """The loss of each logging step."""
    return [entry["loss"] for entry in log(folder) if "loss" in entry]


def moved(before: Path, after: Path) -> set[str]:
    """The parts of which some parameter is not the same to the bit."""
    first, second = (load_file(folder / "model.safetensors") for folder in (before, after))
    assert first.keys() == second.keys()
    parts = {"vpm": "vision", "resampler": "resampler", "llm": "llm"}
    return {parts[name.partition(".")[0]] for name in first if not torch.equal(first[name], second[name])}


@pytest.mark.slow
def test_each_stage_trains_the_parts_of_the_paper_and_continues_from_the_previous_one(
    tiny_model: Path, tables: dict[str, str], tmp_path: Path
) -> None:
    start = tiny_model
    expected = {
        "pretrain-1": ({"resampler"}, False),
        "pretrain-2": ({"vision"}, False),
        "pretrain-3": ({"vision", "resampler"}, True),
        "sft-1": ({"vision", "resampler", "llm"}, True),
        "sft-2": ({"vision", "resampler", "llm"}, True),
    }
    for stage, (parts, slicing) in expected.items():
        folder = tmp_path / stage
        data = [tables["captions"]] if stage.startswith("pretrain") else [tables["captions"], tables["chats"]]
        resolution: dict[str, Any] = {"scale_resolution": 28} if stage == "pretrain-1" else {"scale_resolution": 56}
        assert main(command(folder, stage=stage, model=str(start), data=data, **resolution)) == 0
        model = folder / "run" / "model"
        assert moved(start, model) == parts
        images = MiniCPMVProcessor.from_pretrained(model).image_processor
        assert (images.slice_mode, images.scale_resolution) == (slicing, resolution["scale_resolution"])
        record = json.loads((folder / "run" / "training.json").read_text())
        assert record["settings"]["stage"] == stage and record["finished"]
        assert log(folder)[0]["loss"] > 0 and log(folder)[0]["num_input_tokens_seen"] > 0
        metrics = json.loads((folder / "run" / "metrics.json").read_text())
        assert metrics["training"]["steps"] == 2 and metrics["training"]["last_loss"] == losses(folder)[-1]
        assert metrics["stages"]["training"]["kept"] == {"rows": 12 if stage.startswith("pretrain") else 23}
        assert not any(model.glob("*.bin")), "a pickle"
        start = model
    dropped = pd.read_parquet(tmp_path / "sft-1" / "run" / "dropped.parquet")
    assert dropped.to_dict("records") == [
        {
            "stage": "training",
            "row_id": f"{tables['chats']}:1",
            "reason": "unusable_image",
            "detail": dropped.loc[0, "detail"],
        },
    ]
    assert "unreadable image" in str(dropped.loc[0, "detail"])


@pytest.mark.slow
def test_a_stopped_stage_resumes_to_the_same_losses_and_weights(
    tiny_model: Path, tables: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common: dict[str, Any] = {
        "stage": "finetune",
        "model": str(tiny_model),
        "data": [tables["captions"], tables["chats"]],
    }
    trainer = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert main(command(straight, trainer, **common)) == 0
    assert main(command(stopped, trainer, **common)) == 0
    run = stopped / "run"
    leave_as_killed(run, 4)
    capsys.readouterr()
    changes = {"save_total_limit": 3, "dataloader_num_workers": 2}
    assert main(command(stopped, {**trainer, **changes}, **common)) == 0
    out = capsys.readouterr().out
    assert "resumes from" in out and "checkpoint-2" in out
    assert "images are cut in worker processes: 2" in out and "attention split, one sample after the other" in out
    assert losses(stopped) == pytest.approx(losses(straight), abs=1e-6) and len(losses(straight)) == 4
    first, second = (
        MiniCPMVForConditionalGeneration.from_pretrained(folder / "run" / "model").state_dict()
        for folder in (straight, stopped)
    )
    for name, value in first.items():
        assert torch.allclose(value, second[name], atol=1e-6), name
    dropped = pd.read_parquet(run / "dropped.parquet")
    assert list(dropped["row_id"]) == [f"{tables['chats']}:1"], "recorded once, although it was dropped twice"


@pytest.mark.parametrize("packing", ["in_order", "best_fit", "none"])
def test_every_packing_trains_and_counts_the_tokens_of_content(
    packing: str, tiny_model: Path, tables: dict[str, str], tmp_path: Path
) -> None:
    changes = {"packing": packing, "sequence_length": 256, "after_any": True}
    trainer = {"max_steps": -1, "num_train_epochs": 1}
    arguments = command(tmp_path, trainer, stage="sft-2", model=str(tiny_model), data=[tables["captions"]], **changes)
    assert main(arguments) == 0
    processor = MiniCPMVProcessor.from_pretrained(tmp_path / "run" / "model")
    table = Conversations(read_table(tables["captions"]), processor, None)
    counted = log(tmp_path)[-2]["num_input_tokens_seen"]
    if packing == "in_order":  # the last sample of each sequence is truncated
        assert sum(table.lengths) * 0.7 < counted < sum(table.lengths)
    else:
        assert counted == sum(table.lengths)


def test_tables_are_mixed_or_one_after_the_other_as_in_the_paper_unless_order_is_set(
    tiny_model: Path, tables: dict[str, str]
) -> None:
    processor = MiniCPMVProcessor.from_pretrained(tiny_model)
    both = [Conversations(read_table(tables[name]), processor, 256) for name in ("captions", "chats")]

    def table_order(stage: Any, seed: int, order: Any = None) -> list[int]:
        config = TrainingConfig(
            seed=seed, stage=stage, model="tiny", data=list(tables.values()), order=order, packing="none"
        )
        return [table for pack in Sequences(both, config, processor.image_token_id).packs for table, *_ in pack]

    assert table_order("sft-1", 0) == table_order("pretrain-3", 0, "listed") == [0] * 12 + [1] * 11
    mixed = table_order("pretrain-1", 0)
    assert sorted(mixed) == table_order("sft-1", 0) != mixed
    assert mixed == table_order("sft-1", 0, "mixed") != table_order("pretrain-1", 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"stage": "pretrain-2"},
            "pretrain-2 continues from pretrain-1, but .*tiny was not written by a finished stage; .* after_any",
        ),
        ({"stage": "pretrain-9"}, "stage is 'pretrain-9': input should be 'pretrain-1', .* or 'finetune'"),
        ({"sequence_lenght": 64}, "unknown key 'sequence_lenght'; did you mean 'sequence_length'"),
        ({"data": ["nowhere.parquet"]}, "no training table nowhere.parquet"),
        ({"data": ["prompts"]}, "has the columns id, text; a training table has images and messages, images and con"),
        ({"data": ["pyproject.toml"]}, "pyproject.toml is not a readable parquet file"),
        ({"model": "nowhere"}, "no model folder nowhere; give a folder"),
        (
            {"stage": "pretrain-2", "model": "nowhere"},
            "no model folder nowhere; .*; to train pretrain-1 first: `make",
        ),
        (
            {"stage": "sft-2", "model": "nowhere", "after_any": True},
            "no model folder nowhere; .* hub id$",
        ),
        ({"model": "tests"}, "tests is not? .*model folder: it has no config.json"),
        ({"model": "other"}, "is a model of type 'llava'; only MiniCPM-V .'minicpmv'. is trained"),
        ({"freeze": ["llm"]}, r"freeze is \['llm'\], but stage pretrain-1 itself decides what trains"),
        ({"stage": "finetune", "freeze": ["vision", "resampler", "llm"]}, "every part"),
        ({"sequence_length": 8}, "can be trained on; the first: [0-9]+ tokens, more than 8"),
        ({"trainer": {"learning_rate": "much"}}, "trainer.learning_rate is 'much': Input should be a valid number"),
        ({"trainer": {"output_dir": "x"}}, "trainer.output_dir cannot be set: checkpoints are in the run folder"),
        ({"trainer": {"eval_strategy": "steps"}}, "trainer.eval_strategy cannot be set: there are no rows for valid"),
        ({"trainer": {"eval_on_start": True}}, "trainer.eval_on_start cannot be set: there are no rows for validation"),
    ],
)
def test_bad_input_is_an_error_of_one_line_and_binds_no_run_folder(
    changes: dict[str, Any],
    message: str,
    tiny_model: Path,
    tables: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if changes.get("data") == ["prompts"]:
        pd.DataFrame({"id": ["a"], "text": ["b"]}).to_parquet(tmp_path / "prompts.parquet")
        changes = {"data": [str(tmp_path / "prompts.parquet")]}
    if changes.get("model") == "other":
        (tmp_path / "config.json").write_text('{"model_type": "llava"}')
        (tmp_path / "model.safetensors").write_bytes(b"weights")
        changes = {"model": str(tmp_path)}
    common: dict[str, Any] = {"stage": "pretrain-1", "model": str(tiny_model), "data": [tables["captions"]]}
    assert main(command(tmp_path, **{**common, **changes})) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert re.search(message, line), line
    assert not any((tmp_path / "run" / name).exists() for name in ("model", "training"))
    if "sequence_length" in changes:  # found after the run folder was bound
        assert main(command(tmp_path, **common)) == 0, "the same run folder with valid settings"


def test_an_unknown_configuration_is_an_error_that_lists_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in `make pretrain STAGE=7`."""
    assert main(["--config", "configs/training/pretrain-7.yaml", "--run", str(tmp_path)]) == 2
    message = capsys.readouterr().err.strip()
    assert re.fullmatch(
        "error: no configuration file .*/pretrain-7.yaml; .*: .*/pretrain-1.yaml, .*/verifier.yaml", message
    )


def test_a_run_folder_with_other_settings_is_not_overwritten(
    tiny_model: Path, tables: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common: dict[str, Any] = {"stage": "pretrain-1", "model": str(tiny_model), "data": [tables["captions"]]}
    weights = tmp_path / "run" / "model" / "model.safetensors"
    assert main(command(tmp_path, **common)) == 0
    assert 'next     make pretrain STAGE=2 SET="model=' in capsys.readouterr().out
    written = weights.read_bytes()
    assert main(command(tmp_path, {"logging_steps": 5}, **common)) == 0
    assert "training: nothing to do" in capsys.readouterr().out
    changes = ["--set", "trainer.learning_rate=0.5"]
    assert main([*command(tmp_path, **common), *changes]) == 2
    message = capsys.readouterr().err
    assert "was made with other settings (trainer.learning_rate: 0.001 -> 0.5)" in message
    assert "use another RUN=" in message and weights.read_bytes() == written


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "sharding"),
    list(itertools.product(("sft-1", "pretrain-1"), SHARDINGS)) if EVERYTHING else [("sft-1", "fsdp2")],
)
def test_two_processes_train_as_one_does_also_after_one_of_them_was_killed(
    stage: str, sharding: str, tiny_model: Path, tables: dict[str, str], tmp_path: Path
) -> None:
    """In SFT some rows have no image, so that a step has one process without. The large epsilon keeps Adam from taking
    whole steps on the rounding errors of gradients that are zero.
    """
    data = tables["chats" if stage == "sft-1" else "captions"]
    common: dict[str, Any] = {"stage": stage, "after_any": True, "model": str(tiny_model), "data": [data]}
    trainer: dict[str, Any] = {"max_steps": 4, "gradient_checkpointing": True, "adam_epsilon": 0.01}
    trainer |= {"save_strategy": "steps", "save_steps": 1, "learning_rate": 0.01}
    common["packing"] = "none"
    assert main(command(tmp_path / "one", {**trainer, "per_device_train_batch_size": 2}, **common)) == 0
    arguments = command(tmp_path / "two", {**trainer, "per_device_train_batch_size": 1}, **common)
    start_and_kill(sharding, 2, ["training", *arguments])
    done = start(sharding, ["training", *arguments])
    assert done.returncode == 0 and "training/checkpoint-2" in done.stdout, done.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    first, second = (
        MiniCPMVForConditionalGeneration.from_pretrained(tmp_path / name / "run" / "model").state_dict()
        for name in ("one", "two")
    )
    for name, value in first.items():
        assert torch.allclose(value, second[name], atol=1e-5), name
    if EVERYTHING:
        refused = start(sharding, ["training", *arguments, "--set", "seed=7"])
        assert refused.returncode == 2 and refused.stderr.count("error: ") == 1 and "seed: 0 -> 7" in refused.stderr
