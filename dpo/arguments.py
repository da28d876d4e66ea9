"""`dpo.trainer` of the configuration -> TRL's DPOConfig. Settings that TRL would silently ignore are errors."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from trl import DPOConfig

from rlaif.config import Config
from rlaif.errors import ConfigError
from rlaif.trainer import parse_trainer_arguments

REFUSED = {
    "output_dir": "checkpoints are in the run folder, under dpo/",
    "seed": "set the top-level `seed`",
    "resume_from_checkpoint": "run the same command again, it resumes from the last checkpoint",
    "remove_unused_columns": "the collator reads the columns that it needs",
    "model_init_kwargs": "set `policy`",
    "padding_free": "TRL ignores it",
    "pad_to_multiple_of": "sequences are padded to the longest of their batch",
    "truncation_mode": "only answers are cut, at their end; see dpo.max_answer_tokens",
    "sync_ref_model": "the reference is the initial policy of the round",
    "ref_model_mixup_alpha": "the reference is the initial policy of the round",
    "ref_model_sync_steps": "the reference is the initial policy of the round",
    "trust_remote_code": "code of a checkpoint is never run",
    "pad_token": "padding is never seen by the loss",
    "dataset_num_proc": "pairs are read batch by batch; see dataloader_num_workers",
}
# Those of TRL's DPOConfig; tests/dpo/test_objectives.py compares them with the installed version.
LOSSES = (
    *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired"),
    *("apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
)
SMOOTHED = {"robust", "exo_pair", "aot", "aot_unpaired"}  # the other losses ignore label_smoothing
DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")
# Losses for other divergences than reverse_kl: those of the difference of two rewards.
DIVERGING = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}
SORTED = {"aot", "aot_unpaired"}  # compare the log ratios of a batch in sorted order


def trainer_arguments(config: Config, output_dir: Path) -> DPOConfig:
    """TRL's arguments: `dpo.trainer` over our defaults over TRL's. Errors: ConfigError, see parse_trainer_arguments."""
    gpu = torch.cuda.is_available()
    defaults: dict[str, Any] = {
        "output_dir": str(output_dir),
        "seed": config.seed,
        "max_length": None,  # TRL's default of 1024 would leave no room for answers to long image prompts
        "remove_unused_columns": False,
        "disable_dropout": config.dpo.method == "full" or not config.dpo.lora.dropout,  # True would disable LoRA's too
        "bf16": gpu and config.policy.dtype != "float32",
        "report_to": "none",
        "save_total_limit": 2,
    }
    values = dict(config.dpo.trainer)
    if isinstance(values.get("loss_type"), str):
        values["loss_type"] = [values["loss_type"]]
    arguments = parse_trainer_arguments(DPOConfig, "dpo.trainer", values, defaults, REFUSED)
    for name, problem in problems(arguments, values):
        raise ConfigError(f"dpo.trainer.{name} is {values.get(name, getattr(arguments, name))!r}, but {problem}")
    return arguments


def problems(arguments: DPOConfig, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings of the loss that TRL refuses only later, computes as something else, or ignores, as (key, problem)."""
    losses, smoothing = arguments.loss_type, arguments.label_smoothing
    preferences = [loss for loss in losses if loss != "sft"]  # sft is a term on the chosen answer alone
    for loss in losses or [""]:
        if loss not in LOSSES:
            close = difflib.get_close_matches(loss, LOSSES, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            yield "loss_type", f"{hint}the losses are {', '.join(LOSSES)}"
    if arguments.beta <= 0:
        yield "beta", "it weighs the distance from the reference; set it above 0"
    if arguments.ld_alpha is not None and not 0 <= arguments.ld_alpha <= 1:
        yield "ld_alpha", "it is a share; set it from 0 to 1"
    if not 0 <= smoothing < 0.5:
        yield "label_smoothing", "it is the share of pairs in the wrong order; set it from 0 to below 0.5"
    if smoothing and (ignored := [loss for loss in preferences or losses if loss not in SMOOTHED]):
        yield "label_smoothing", f"loss {ignored[0]} ignores it; remove it, or use {', '.join(sorted(SMOOTHED))}"
    if "exo_pair" in losses and not smoothing:
        yield "label_smoothing", "loss exo_pair takes its logarithm; set it above 0 (its paper recommends 0.001)"
    if arguments.f_divergence_type not in DIVERGENCES:
        yield "f_divergence_type", f"the divergences are {', '.join(DIVERGENCES)}"
    elif arguments.f_divergence_type != "reverse_kl" and (wrong := [loss for loss in losses if loss not in DIVERGING]):
        yield "f_divergence_type", f"loss {wrong[0]} is defined for reverse_kl only; remove one of the two"
    if "f_alpha_divergence_coef" in given and arguments.f_divergence_type != "alpha_divergence":
        yield "f_alpha_divergence_coef", "only f_divergence_type alpha_divergence reads it; remove it"
    if "discopop_tau" in given and "discopop" not in losses:
        yield "discopop_tau", "only loss discopop reads it; remove it"
    for loss in SORTED.intersection(losses):
        if arguments.use_weighting:
            yield "use_weighting", f"loss {loss} sorts the pairs of a batch, so that they lose their weights; remove it"
        if arguments.per_device_train_batch_size == 1:
            yield "per_device_train_batch_size", f"loss {loss} compares the pairs of a batch; set it to 2 at least"
    if arguments.use_weighting and "sft" in losses:
        yield "use_weighting", "loss sft is one number a batch, not one a pair; remove one of the two"
    if "precompute_ref_batch_size" in given and not arguments.precompute_ref_log_probs:
        yield "precompute_ref_batch_size", "nothing is precomputed; set precompute_ref_log_probs too, or remove it"
