"""What this project uses of TRL's private API still works as dpo/trl_private.py says. A failure names what moved."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from transformers import AutoProcessor
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer as Trainer

from dpo.arguments import trainer_arguments
from dpo.pair_reader import locate_pairs
from dpo.policy import load_collator
from dpo.trainer import PairTrainer, build_trainer
from dpo.trl_private import REFERENCE_COLUMNS, DataCollatorForVisionPreference, LocationTrainer
from rlaif.storage.run import Run
from tests.support.alignment import config_of
from tests.support.pair_rows import pair_row, varied_pairs, write_pairs

Build = Callable[..., PairTrainer]


@pytest.fixture
def build(tiny_model: Path, tmp_path: Path) -> Build:
    """Builds the trainer of the stage for six pairs."""

    def build(**trainer: Any) -> PairTrainer:
        config = config_of(tiny_model, trainer)
        write_pairs(tmp_path, config, varied_pairs(6))
        run = Run(tmp_path, config, "dpo")
        assert run.begin(["policy"], {}, inputs=["pairs"])
        args = trainer_arguments(config, tmp_path / "dpo")
        collator = load_collator(config.policy, config.dpo, args.max_length)
        pairs = locate_pairs(run, "train", collator)
        return build_trainer(config, args, collator, tmp_path / "pairs.parquet", pairs, None)

    return build


def test_version() -> None:
    message = "dpo/trl_private.py was tested with TRL 1.16: run this file with the new version, then change both texts"
    assert trl.__version__.startswith("1.16."), message


@pytest.mark.slow
def test_data_sets_are_still_prepared_by_the_method_that_is_overridden(build: Build) -> None:
    broken = "TRL does not call DPOTrainer._prepare_dataset any more: it would tokenize locations, not pairs"
    assert Trainer is DPOTrainer
    assert list(inspect.signature(DPOTrainer._prepare_dataset).parameters)[1] == "dataset", broken
    assert LocationTrainer._prepare_dataset is not DPOTrainer._prepare_dataset
    data: Any = build().train_dataset
    assert data.column_names == ["pair_id", "group", "row", "prompt"], broken


@pytest.mark.slow
def test_a_data_set_of_locations_still_passes_for_text(build: Build) -> None:
    broken = "TRL does not tell data sets with images by their columns any more: it may refuse to precompute"
    assert build()._is_vision_dataset is False, broken


@pytest.mark.slow
def test_rewards_of_the_current_batch_are_still_in_metrics(build: Build) -> None:
    broken = "TRL does not append rewards/chosen and rewards/rejected to DPOTrainer._metrics any more"
    trainer = build()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.model.train()
    with torch.no_grad():
        trainer.model.lm_head.weight += 0.1 * torch.randn_like(trainer.model.lm_head.weight)
    loss = DPOTrainer.compute_loss(trainer, trainer.model, batch)
    assert {"rewards/chosen", "rewards/rejected"} <= trainer._metrics["train"].keys(), broken
    chosen, rejected = trainer.batch_rewards()
    margins = trainer._metrics["train"]["rewards/margins"]
    assert chosen != 0 and chosen - rejected == pytest.approx(margins[-1], abs=1e-6), broken
    assert loss.item() > 0 and loss.item() != pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.slow
def test_precomputed_log_probs_still_come_in_the_same_columns(build: Build) -> None:
    broken = f"TRL does not store precomputed log-probs in {REFERENCE_COLUMNS} any more, or does not read them there"
    trainer = build(precompute_ref_log_probs=True)
    data: Any = trainer.train_dataset
    assert tuple(data.column_names[-2:]) == REFERENCE_COLUMNS, broken
    batch = next(iter(trainer.get_train_dataloader()))
    assert all(batch[name].shape == (2,) and (batch[name] < 0).all() for name in REFERENCE_COLUMNS), broken
    trainer.model.train()
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(math.log(2), abs=1e-6), broken


def test_the_collator_for_other_models_still_takes_and_gives_the_same(tiny_model: Path) -> None:
    from dpo.collator import open_images

    broken = "TRL's DataCollatorForVisionPreference takes or gives something else than before"
    row = pair_row("a", "red", "a red circle", "a blue star")
    example = {"images": open_images(row), **{name: row[name] for name in ("prompt", "chosen", "rejected")}}
    batch = DataCollatorForVisionPreference(AutoProcessor.from_pretrained(tiny_model))([example])
    assert {"input_ids", "attention_mask", "completion_mask"} <= batch.keys(), broken
    assert len(batch["input_ids"]) == 2 and batch["completion_mask"].sum() > 0, broken


def test_methods_that_are_overridden_for_several_processes_still_exist() -> None:
    """What they do is tested in tests/dpo/test_processes.py."""
    for name, parameters in {
        "_compute_loss": ["self", "model", "inputs", "return_outputs"],
        "_precompute_ref_logps": ["self", "dataset", "name", "batch_size"],
    }.items():
        assert list(inspect.signature(getattr(DPOTrainer, name)).parameters) == parameters, f"TRL has changed {name}"
        assert getattr(LocationTrainer, name) is not getattr(DPOTrainer, name)
