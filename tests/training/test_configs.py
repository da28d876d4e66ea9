"""The configurations of training: each continues from what an earlier one writes."""

import re
from pathlib import Path

import pytest
from accelerate import DistributedType
from accelerate.commands.config.config_args import load_config_from_file

from rlaif.config import EncoderConfig, TrainingConfig
from rlaif.config.load import load_config_of
from tests.support import ROOT
from tests.support.project.make import dry_run
from training.paper_stages import STAGES, next_command

CONFIGS = sorted((ROOT / "configs" / "training").glob("*.yaml"))
ENCODER = ROOT / "configs" / "training" / "encoder.yaml"
COMMAND = re.compile(r"-m training(?:\.encoder)? --config '(\S+)' --run '(\S+)'")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_training_config_is_read_strictly_and_continues_from_the_previous_stage(path: Path) -> None:
    header = path.read_text().split("\n\n")[0]
    assert all(word in header for word in ("command ", "cost ", "result "))
    assert f"runs/training/{'start' if path == ENCODER else path.stem}/model" in header
    if path == ENCODER:  # no stage of the paper
        assert load_config_of(EncoderConfig, path).model == "runs/training/language-2/model"
        return
    config = load_config_of(TrainingConfig, path)
    assert config.stage in STAGES
    before = STAGES[config.stage].after
    if before is not None:
        assert config.model == f"runs/training/{before}/model"


def test_embedded_models_trains_each_stage_after_the_one_it_continues_from() -> None:
    written = {"runs/training/random"}
    for path, run in COMMAND.findall(dry_run("embedded-models")):
        kind: type[EncoderConfig | TrainingConfig] = EncoderConfig if ROOT / path == ENCODER else TrainingConfig
        assert load_config_of(kind, ROOT / path).model in written, path
        written.add(f"{run}/model")
    assert {f"runs/training/{name}/model" for name in ("start", "policy", "labeler", "rewriter")} <= written


def test_make_passes_config_run_set_and_launcher_to_training() -> None:
    shown = dry_run("pretrain", "STAGE=2", "SET=trainer.learning_rate=1e-5 packing=none", "LAUNCH=accelerate launch -m")
    files = "--config 'configs/training/pretrain-2.yaml' --run 'runs/training/pretrain-2'"
    assert f"accelerate launch -m training {files} --set 'trainer.learning_rate=1e-5' 'packing=none'" in shown
    assert "--config 'my/own.yaml' --run 'runs/training/own'" in dry_run("sft", "CONFIG=my/own.yaml")
    assert "--config 'configs/training/sft-2.yaml' --run 'runs/x'" in dry_run("sft", "PART=2", "RUN=runs/x")


def test_each_stage_of_the_paper_names_the_command_of_the_next() -> None:
    following = ["make pretrain STAGE=2", "make pretrain STAGE=3", "make sft PART=1", "make sft PART=2", None, None]
    assert [next_command(stage, Path("runs/training", stage)) for stage in STAGES] == following
    assert next_command("sft-1", Path("mine")) == 'make sft PART=2 SET="model=mine/model"'
    for stage, details in STAGES.items():
        if details.command:
            target, setting = details.command.removeprefix("make ").split()
            assert f"configs/training/{stage}.yaml" in dry_run(target, setting)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "accelerate").glob("*.yaml")), ids=lambda path: path.name)
def test_every_accelerate_config_is_one_and_names_its_command(path: Path) -> None:
    header = path.read_text().split("\n\n")[0]
    assert all(word in header for word in ("command ", "cost ", "result ")) and str(path.relative_to(ROOT)) in header
    config = load_config_from_file(str(path))
    kinds = {"ddp": DistributedType.MULTI_GPU, "fsdp2": DistributedType.FSDP}
    assert config.distributed_type == kinds.get(path.stem, DistributedType.DEEPSPEED) and config.num_machines == 1
    assert config.mixed_precision == "no", "the trainer section decides"
    assert f"SHARDING={path.stem}" in header or path.stem == "ddp"
