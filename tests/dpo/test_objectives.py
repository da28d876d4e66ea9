"""Every loss of TRL, with a prompt computed once for both answers or twice: equal, or refused by name."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import DPOConfig

from dpo.arguments import DIVERGENCES, LOSSES, trainer_arguments
from dpo.pair_reader import locate_pairs
from dpo.policy import load_collator
from dpo.trainer import PairTrainer, build_trainer
from rlaif.errors import ConfigError
from rlaif.storage.run import Run
from tests.support.alignment import config_of
from tests.support.pair_rows import varied_pairs, write_pairs

MPO: dict[str, Any] = {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]}
OBJECTIVES: dict[str, dict[str, Any]] = {
    **{loss: {"loss_type": loss, **({"label_smoothing": 1e-3} if loss == "exo_pair" else {})} for loss in LOSSES},
    **{f"{loss} smoothed": {"loss_type": loss, "label_smoothing": 0.1} for loss in ("robust", "aot", "aot_unpaired")},
    **{kind: {"f_divergence_type": kind} for kind in DIVERGENCES[1:]},
    "ld_alpha": {"ld_alpha": 0.5},
    "use_weighting": {"use_weighting": True},
    "MPO": MPO,
    "bco_pair weighted, ld_alpha": {"loss_type": "bco_pair", "use_weighting": True, "ld_alpha": 0.5},
    "sigmoid, sft, js_divergence": {"loss_type": ["sigmoid", "sft"], "f_divergence_type": "js_divergence"},
}
# Settings of the loss, as DPOTrainer names them -> as DPOConfig does.
ATTRIBUTES = {
    "loss_types": "loss_type",
    **{name: name for name in ("beta", "ld_alpha", "label_smoothing", "use_weighting", "f_divergence_type")},
}
Loss = Callable[[str], tuple[float, float]]


@pytest.fixture(scope="module")
def loss_of(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Loss:
    """Name of an objective -> the loss of four pairs with each prompt twice, and with it once.

    The policy differs from its reference. Trainers are built once, and get the settings of each loss.
    """
    folder = tmp_path_factory.mktemp("objectives")
    settings = {  # before the trainers: arguments reset the state of `accelerate`
        name: trainer_arguments(config_of(tiny_model, trainer), folder / "dpo") for name, trainer in OBJECTIVES.items()
    }
    trainers = [build(tiny_model, folder / str(shared), shared) for shared in (False, True)]
    for trainer in trainers:
        trainer.model.train()
        trainer.state.global_step = 1
        with torch.no_grad():
            weight = trainer.model.lm_head.weight
            weight += 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    batches = [trainer._prepare_inputs(next(iter(trainer.get_train_dataloader()))) for trainer in trainers]
    assert ["folds" in batch for batch in batches] == [False, True]

    @cache
    def loss_of(name: str) -> tuple[float, float]:
        arguments = settings[name]
        losses = []
        for trainer, batch in zip(trainers, batches, strict=True):
            trainer.loss_weights = arguments.loss_weights or [1.0] * len(arguments.loss_type)
            for attribute, key in ATTRIBUTES.items():
                assert hasattr(trainer, attribute), f"TRL's DPOTrainer has no attribute {attribute} any more"
                setattr(trainer, attribute, getattr(arguments, key))
            with torch.no_grad():
                losses.append(trainer.compute_loss(trainer.model, batch).item())
        return losses[0], losses[1]

    return loss_of


def build(model: Path, folder: Path, shared_prefix: bool) -> PairTrainer:
    # use_weighting: so that the model gives what this loss needs; the others do without
    trainer = {"per_device_train_batch_size": 4, "use_weighting": True}
    config = config_of(model, trainer, shared_prefix=shared_prefix)
    first, *others = varied_pairs(3)
    same_prompt = {**others[1], "pair_id": "another", **{name: first[name] for name in ("images", "prompt_id")}}
    write_pairs(folder, config, [first, same_prompt, *others])
    run = Run(folder, config, "dpo")
    assert run.begin(["policy"], {}, inputs=["pairs"])
    arguments = trainer_arguments(config, folder / "dpo")
    collator = load_collator(config.policy, config.dpo, arguments.max_length)
    return build_trainer(
        config, arguments, collator, folder / "pairs.parquet", locate_pairs(run, "train", collator), None
    )


def test_the_losses_are_those_of_the_installed_trl() -> None:
    texts = {name: field.metadata.get("help", "") for name, field in DPOConfig.__dataclass_fields__.items()}
    assert re.findall(r"`'(\w+)'`", texts["loss_type"]) == list(LOSSES)
    divergences = texts["f_divergence_type"].partition("Only")[0]
    assert re.findall(r"`(\w+)`", divergences) == list(DIVERGENCES)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_shared_prefix_does_not_change_the_loss(name: str, loss_of: Loss) -> None:
    separate, shared = loss_of(name)
    assert shared == pytest.approx(separate, abs=1e-5, rel=1e-5)
    if name not in ("sigmoid", "robust", "aot"):  # equal here: no smoothing, and an order that both models share
        assert abs(separate - loss_of("sigmoid")[0]) > 1e-5  # negative control: it is another loss


def test_weights_of_a_combined_loss(loss_of: Loss) -> None:
    parts = [loss_of(loss)[1] for loss in MPO["loss_type"]]
    expected = sum(weight * part for weight, part in zip(MPO["loss_weights"], parts, strict=True))
    assert loss_of("MPO")[1] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"loss_type": "sigmod"},
            r"loss_type is \['sigmod'\], but did you mean sigmoid\? the losses are sigm",
        ),
        ({"loss_type": []}, r"loss_type is \[\], but the losses are sigmoid, hinge"),
        ({"beta": 0}, "beta is 0, but it weighs the distance from the reference; set it above 0"),
        ({"ld_alpha": 1.5}, "ld_alpha is 1.5, but it is a share; set it from 0 to 1"),
        (
            {"label_smoothing": 0.1},
            "label_smoothing is 0.1, but loss sigmoid ignores it; remove it, or use aot",
        ),
        ({"label_smoothing": 0.1, "loss_type": "sft"}, "label_smoothing is 0.1, but loss sft ignores it"),
        (
            {"label_smoothing": 0.1, "loss_type": ["robust", "bco_pair", "sft"]},
            "label_smoothing is 0.1, but loss bco_pair ignores it",
        ),
        (
            {"label_smoothing": 0.5, "loss_type": "robust"},
            "label_smoothing is 0.5, but it is the share of pairs",
        ),
        ({"loss_type": "exo_pair"}, "label_smoothing is 0.0, but loss exo_pair takes its logarithm; set it above 0"),
        ({"f_divergence_type": "kl"}, "f_divergence_type is 'kl', but the divergences are reverse_kl, forward_kl"),
        (
            {**MPO, "f_divergence_type": "js_divergence"},
            "f_divergence_type is 'js_divergence', but loss bco_pair is defined for reverse_kl only; remove one of the",
        ),
        ({"f_alpha_divergence_coef": 0.3}, "f_alpha_divergence_coef is 0.3, but only f_divergence_type alpha_diverg"),
        ({"discopop_tau": 0.1}, "discopop_tau is 0.1, but only loss discopop reads it; remove it"),
        ({"loss_type": "aot", "use_weighting": True}, "use_weighting is True, but loss aot sorts the pairs of a batch"),
        ({**MPO, "use_weighting": True}, "use_weighting is True, but loss sft is one number a batch, not one a pair"),
        (
            {"loss_type": "aot_unpaired", "per_device_train_batch_size": 1},
            "per_device_train_batch_size is 1, but loss aot_unpaired compares the pairs of a batch; set it to 2",
        ),
        (
            {"precompute_ref_batch_size": 8},
            "precompute_ref_batch_size is 8, but nothing is precomputed; set prec",
        ),
        ({"sync_ref_model": True}, "sync_ref_model cannot be set: the reference is the initial policy of the round"),
        ({"dataset_num_proc": 2}, "dataset_num_proc cannot be set: pairs are read batch by batch"),
    ],
)
def test_settings_that_would_be_ignored_or_fail_later_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"dpo.trainer.{message}") as caught:
        trainer_arguments(config_of(tmp_path, settings), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"loss_type": ["robust", "sft"], "label_smoothing": 0.1},
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
        {"loss_type": "discopop", "discopop_tau": 0.1},
        {"precompute_ref_log_probs": True, "precompute_ref_batch_size": 8},
    ],
)
def test_settings_that_are_read_are_taken(settings: dict[str, Any], tmp_path: Path) -> None:
    trainer_arguments(config_of(tmp_path, settings), tmp_path)
