"""`dpo.trainer` of the configuration -> TRL's DPOConfig, strictly: what TRL would ignore without a word is an error."""

import difflib
from pathlib import Path
from typing import Any, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from transformers import HfArgumentParser
from trl import DPOConfig

from rlaif.config import Config
from rlaif.errors import ConfigError

REFUSED = {
    "output_dir": "checkpoints lie in the run folder, under dpo/",
    "seed": "set the top-level `seed`",
    "resume_from_checkpoint": "start the same command again, it goes on from the last checkpoint",
    "remove_unused_columns": "the collator reads the columns it needs",
    "model_init_kwargs": "set `policy`",
    "padding_free": "TRL ignores it",
    "pad_to_multiple_of": "sequences are padded to the longest of their batch",
    "truncation_mode": "only answers are cut, at their end; see dpo.max_answer_tokens",
    "sync_ref_model": "the reference stays the policy that the round began with",
}
SMOOTHED_LOSSES = {"robust", "exo_pair", "aot", "aot_unpaired"}  # the others ignore label_smoothing


def trainer_arguments(config: Config, output_dir: Path) -> DPOConfig:
    """TRL's arguments: its own defaults, ours over them, the configuration's over both.

    Errors: ConfigError for a key that DPOConfig does not have or that is not set here, or a value of the wrong kind.
    """
    hints = get_type_hints(DPOConfig)
    given = {key: _checked(key, value, hints) for key, value in config.dpo.trainer.items()}
    gpu = torch.cuda.is_available()
    ours: dict[str, Any] = {
        "output_dir": str(output_dir),
        "seed": config.seed,
        "max_length": None,  # TRL's 1024 would leave a long image prompt no room for its answers
        "remove_unused_columns": False,
        "disable_dropout": config.dpo.method == "full" or not config.dpo.lora.dropout,  # True disables LoRA's as well
        "bf16": gpu and config.policy.dtype != "float32",
        "dataloader_pin_memory": gpu,
        "report_to": "none",
        "save_total_limit": 2,
    }
    try:
        (arguments,) = HfArgumentParser(DPOConfig).parse_dict({**ours, **given}, allow_extra_keys=False)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise ConfigError(f"dpo.trainer: {' '.join(str(error).split())}") from error
    if arguments.label_smoothing and not SMOOTHED_LOSSES & set(arguments.loss_type):
        raise ConfigError(
            f"dpo.trainer.label_smoothing is {arguments.label_smoothing}, but loss_type {arguments.loss_type} ignores "
            f"it; it works with {', '.join(sorted(SMOOTHED_LOSSES))}"
        )
    return arguments


def _checked(key: str, value: Any, hints: dict[str, Any]) -> Any:
    """The value, converted to the kind of its field. Errors: ConfigError."""
    if key in REFUSED:
        raise ConfigError(f"dpo.trainer.{key} cannot be set: {REFUSED[key]}")
    if key not in DPOConfig.__dataclass_fields__:
        close = difflib.get_close_matches(key, DPOConfig.__dataclass_fields__.keys() - REFUSED.keys())
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise ConfigError(f"unknown key 'dpo.trainer.{key}'; {hint}allowed are the fields of TRL's DPOConfig")
    if key == "loss_type" and isinstance(value, str):
        return [value]
    try:
        return TypeAdapter(hints[key]).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"dpo.trainer.{key} is {value!r}: {error.errors()[0]['msg']}") from error
