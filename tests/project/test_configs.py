"""Every file in configs/ loads through the class that reads it, and its header says what it is for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from rlaif.config import AblationsConfig, EncoderConfig, RewriteConfig, TrainingConfig
from rlaif.config.load import load_config, load_config_of
from rlaif.pipelines.ablations import load_variant
from tests.support import ROOT

LOADERS: dict[str, Callable[[Path], object]] = {
    "rewrite.yaml": partial(load_config_of, RewriteConfig),
    "ablations.yaml": partial(load_config_of, AblationsConfig),
}
RUNS = [path for path in sorted((ROOT / "configs").glob("*.yaml")) if path.name not in LOADERS]
TRAINING = sorted((ROOT / "configs" / "training").glob("*.yaml"))
LOADERS |= {path.name: partial(load_config_of, TrainingConfig) for path in TRAINING}
LOADERS["encoder.yaml"] = partial(load_config_of, EncoderConfig)
CONFIGS = [*sorted((ROOT / "configs").glob("*.yaml")), *TRAINING]


def file_name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", CONFIGS, ids=file_name)
def test_every_config_loads(path: Path) -> None:
    LOADERS.get(path.name, load_config)(path)


@pytest.mark.parametrize("path", CONFIGS, ids=file_name)
def test_every_header_has_command_cost_and_result(path: Path) -> None:
    header = path.read_text().split("\n\n")[0]
    assert all(word in header for word in ("command ", "cost ", "result "))


def test_every_variant_of_the_ablations_is_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    table = load_config_of(AblationsConfig, "configs/ablations.yaml")
    assert len({load_variant(table, name).model_dump_json() for name in table.variants}) == len(table.variants) == 12


@pytest.mark.parametrize("path", RUNS, ids=file_name)
def test_trainer_keys_are_those_of_trl(path: Path) -> None:
    from trl import DPOConfig

    assert load_config(path).dpo.trainer.keys() <= DPOConfig.__dataclass_fields__.keys()


@pytest.mark.parametrize("path", TRAINING, ids=file_name)
def test_trainer_keys_of_training_are_those_of_transformers(path: Path, tmp_path: Path) -> None:
    from training.encoder.trainer import training_arguments as encoder_arguments
    from training.trainer import training_arguments

    if path.name == "encoder.yaml":
        arguments = encoder_arguments(load_config_of(EncoderConfig, path), tmp_path)
    else:
        arguments = training_arguments(load_config_of(TrainingConfig, path), tmp_path)
    assert arguments.seed == 0 and arguments.bf16 and arguments.save_total_limit == 1
