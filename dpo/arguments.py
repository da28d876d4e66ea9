"""`dpo.trainer` of the configuration -> TRL's DPOConfig. Settings that TRL would silently ignore are errors."""

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
}
SMOOTHED_LOSSES = {"robust", "exo_pair", "aot", "aot_unpaired"}  # the others ignore label_smoothing


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
        "dataloader_pin_memory": gpu,
        "report_to": "none",
        "save_total_limit": 2,
    }
    values = dict(config.dpo.trainer)
    if isinstance(values.get("loss_type"), str):
        values["loss_type"] = [values["loss_type"]]
    arguments = parse_trainer_arguments(DPOConfig, "dpo.trainer", values, defaults, REFUSED)
    if arguments.label_smoothing and not SMOOTHED_LOSSES & set(arguments.loss_type):
        raise ConfigError(
            f"dpo.trainer.label_smoothing is {arguments.label_smoothing}, but loss_type {arguments.loss_type} ignores "
            f"it; remove it, or use {', '.join(sorted(SMOOTHED_LOSSES))}"
        )
    return arguments
