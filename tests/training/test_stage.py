"""The stages of training, each run for real on the tiny model."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from safetensors.torch import load_file

from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from tests.support import ROOT
from tests.support.tiny import noise_image
from training.conversations import Conversations, read_table
from training.stage import Sequences, StageArguments, main

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


def settings(folder: Path, **changes: Any) -> list[str]:
    """A configuration file, and the command line that names it."""
    values = {
        "packing": "best_fit",
        "sequence_length": 192,
        "per_device_train_batch_size": 2,
        "max_steps": 2,
        "learning_rate": "1e-3",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": False,
        "disable_tqdm": True,
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stage.yaml").write_text(json.dumps(values))
    return ["--config", str(folder / "stage.yaml"), "--output_dir", str(folder / "out")]


def moved(before: Path, after: Path) -> set[str]:
    """The parts of which some parameter is not the same to the bit."""
    first, second = (load_file(folder / "model.safetensors") for folder in (before, after))
    assert first.keys() == second.keys()
    parts = {"vpm": "vision", "resampler": "resampler", "llm": "llm"}
    return {parts[name.partition(".")[0]] for name in first if not torch.equal(first[name], second[name])}


def test_each_stage_moves_what_the_paper_says_and_goes_on_from_the_one_before(
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
        resolution = {"scale_resolution": 28} if stage == "pretrain-1" else {"scale_resolution": 56}
        assert main(settings(folder, stage=stage, model=str(start), data=data, **resolution)) == 0
        assert moved(start, folder / "out") == parts
        images = MiniCPMVProcessor.from_pretrained(folder / "out").image_processor
        assert (images.slice_mode, images.scale_resolution) == (slicing, resolution["scale_resolution"])
        record = json.loads((folder / "out" / "training.json").read_text())
        assert record["stage"] == stage and record["log"][0]["loss"] > 0
        assert record["log"][0]["num_input_tokens_seen"] > 0
        start = folder / "out"
    dropped = pd.read_parquet(tmp_path / "sft-1" / "out" / "dropped.parquet")
    assert dropped.to_dict("records") == [
        {"table": tables["chats"], "row": 1, "reason": dropped.loc[0, "reason"]},
    ]
    assert "unreadable image" in str(dropped.loc[0, "reason"])


def losses(folder: Path) -> list[float]:
    record = json.loads((folder / "out" / "training.json").read_text())
    return [entry["loss"] for entry in record["log"] if "loss" in entry]


def test_a_stopped_stage_goes_on_to_the_same_losses_and_weights(
    tiny_model: Path, tables: dict[str, str], tmp_path: Path
) -> None:
    common: dict[str, Any] = {
        "stage": "finetune",
        "model": str(tiny_model),
        "data": [tables["captions"], tables["chats"]],
    }
    common |= {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert main(settings(straight, **common)) == 0
    assert main(settings(stopped, **common)) == 0
    out = stopped / "out"
    for left in (
        "training.json",
        "model.safetensors",
        "checkpoint-4/trainer_state.json",
    ):  # as a kill at step 4 leaves it
        (out / left).unlink()
    assert main(settings(stopped, **common)) == 0
    assert losses(stopped) == pytest.approx(losses(straight), abs=1e-6) and len(losses(straight)) == 4
    first, second = (
        MiniCPMVForConditionalGeneration.from_pretrained(folder / "out").state_dict() for folder in (straight, stopped)
    )
    for name, value in first.items():
        assert torch.allclose(value, second[name], atol=1e-6), name


@pytest.mark.parametrize("packing", ["in_order", "best_fit", "none"])
def test_every_packing_trains_and_counts_the_tokens_of_content(
    packing: str, tiny_model: Path, tables: dict[str, str], tmp_path: Path
) -> None:
    changes = {"max_steps": -1, "num_train_epochs": 1, "packing": packing, "sequence_length": 256}
    assert (
        main(
            settings(
                tmp_path, stage="sft-2", after_any=True, model=str(tiny_model), data=[tables["captions"]], **changes
            )
        )
        == 0
    )
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    processor = MiniCPMVProcessor.from_pretrained(tmp_path / "out")
    table = Conversations(read_table(tables["captions"]), processor, None)
    seen = record["log"][-2]["num_input_tokens_seen"]
    if packing == "in_order":  # the last sample of each sequence lost its end
        assert sum(table.lengths) * 0.7 < seen < sum(table.lengths)
    else:
        assert seen == sum(table.lengths)


def test_tables_are_fed_mixed_or_one_after_the_other_as_the_paper_has_it_unless_told(
    tiny_model: Path, tables: dict[str, str]
) -> None:
    processor = MiniCPMVProcessor.from_pretrained(tiny_model)
    both = [Conversations(read_table(tables[name]), processor, 256) for name in ("captions", "chats")]

    def fed(stage: Any, seed: int, order: Any = None) -> list[int]:
        arguments = StageArguments(stage, str(tiny_model), list(tables.values()), order=order, packing="none")
        return [
            table for pack in Sequences(both, arguments, seed, processor.image_token_id).packs for table, *_ in pack
        ]

    assert fed("sft-1", 0) == fed("pretrain-3", 0, "listed") == [0] * 12 + [1] * 11
    mixed = fed("pretrain-1", 0)
    assert sorted(mixed) == fed("sft-1", 0) != mixed and mixed == fed("sft-1", 0, "mixed") != fed("pretrain-1", 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "pretrain-2"}, "pretrain-2 goes on from pretrain-1, but .*tiny was made by no stage .* after_any"),
        ({"stage": "pretrain-9"}, "stage is 'pretrain-9'; allowed: pretrain-1, .*, finetune"),
        ({"sequence_lenght": 64}, "Unknown arguments from config file: .*sequence_lenght"),
        ({"data": ["nowhere.parquet"]}, "there is no training table nowhere.parquet"),
        ({"data": ["prompts"]}, "has the columns id, text; a training table has images and messages, images and con"),
        ({"data": ["pyproject.toml"]}, "pyproject.toml is no parquet file"),
        ({"model": "nowhere"}, "there is no model folder nowhere; make it first"),
        ({"stage": "pretrain-2", "model": "nowhere"}, "no model folder nowhere; train pretrain-1 first, or"),
        ({"stage": "sft-2", "model": "nowhere", "after_any": True}, "no model folder nowhere; make it first"),
        ({"model": "tests"}, "tests is no model folder: it has no config.json"),
        ({"model": "other"}, "is a model of type 'llava'; this trains MiniCPM-V, 'minicpmv'"),
        ({"freeze": ["llm"]}, "freeze is for finetune; pretrain-1 trains resampler"),
        ({"stage": "finetune", "freeze": ["vision", "resampler", "llm"]}, "names every part"),
        ({"sequence_length": 8}, "can be learnt from; the first: [0-9]+ tokens, more than 8"),
        ({"learning_rate": "much"}, "invalid float value: 'much'"),
    ],
)
def test_bad_input_is_one_line(
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
        changes = {"model": str(tmp_path)}
    common = {"stage": "pretrain-1", "model": str(tiny_model), "data": [tables["captions"]], **changes}
    try:
        status: object = main(settings(tmp_path, **common))
    except SystemExit as end:  # argparse says it, and its usage before
        status = end.code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and re.search(message, last), last
    assert not any((tmp_path / "out" / name).exists() for name in ("config.json", "settings.json"))


def test_a_stage_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """As in `make pretrain STAGE=7`."""
    assert main(["--config", "configs/training/pretrain-7.yaml"]) == 2
    told = capsys.readouterr().err.strip()
    assert re.fullmatch("error: no configuration file .*/pretrain-7.yaml; .*: .*/pretrain-1.yaml, .*/splits.yaml", told)


def test_a_folder_begun_with_other_settings_is_left_alone(
    tiny_model: Path, tables: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = {"stage": "pretrain-1", "model": str(tiny_model), "data": [tables["captions"]]}
    assert main(settings(tmp_path, **common)) == 0
    written = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert main(settings(tmp_path, **common)) == 0
    assert "pretrain-1: nothing to do" in capsys.readouterr().out
    assert main(settings(tmp_path, **common, learning_rate=0.5)) == 2
    assert "was begun with other settings (trainer); nothing in it is overwritten" in capsys.readouterr().err
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == written


def test_two_processes_train_as_one_does_also_where_one_of_them_has_no_image(
    tiny_model: Path, tables: dict[str, str], tmp_path: Path
) -> None:
    common = {"stage": "sft-1", "after_any": True, "model": str(tiny_model), "data": [tables["chats"]], "max_steps": 4}
    # plain SGD: Adam makes whole steps of what rounding leaves where a gradient is zero
    common |= {"packing": "none", "gradient_checkpointing": True, "optim": "sgd", "learning_rate": 0.1}
    assert main(settings(tmp_path / "one", **common, per_device_train_batch_size=2)) == 0
    arguments = settings(tmp_path / "two", **common, per_device_train_batch_size=1, ddp_backend="gloo")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "training.stage",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *arguments], check=True, cwd=ROOT, env=environment)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    first, second = (
        MiniCPMVForConditionalGeneration.from_pretrained(tmp_path / name / "out").state_dict()
        for name in ("one", "two")
    )
    for name, value in first.items():
        assert torch.allclose(value, second[name], atol=1e-5), name
