"""The policy as it is loaded, which of its parts train, and how the aligned one is saved.

MiniCPM-V is what this is made for; any other image-text model that transformers knows is aligned too, by TRL's own
collator.
"""

import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from dpo.collator import Collator, PairCollator, StockCollator
from model import MiniCPMVConfig, MiniCPMVProcessor
from model.parts import PARTS
from rlaif.config import Config, DpoSection, LoraSection, ModelSection
from rlaif.errors import ConfigError, ModelError
from rlaif.storage.files import atomic_folder


def check_policy(config: Config) -> None:
    """Find what cannot work before the run folder is bound to it. Errors: ModelError, ConfigError."""
    section, dpo = config.policy, config.dpo
    settings = load_config(section)
    if type(settings) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ModelError(
            f"{section.model} is a model of type {settings.model_type!r}, which transformers has as no image-text "
            "model; dpo trains those. Set policy.model to one"
        )
    if dpo.method == "full" and set(PARTS) <= set(dpo.freeze):
        raise ConfigError(f"dpo.freeze names every part ({', '.join(PARTS)}), so that nothing trains; leave one out")
    if dpo.method == "lora":
        with torch.device("meta"):
            decoder: Any = AutoModelForImageTextToText.from_config(settings).get_decoder()
        linear = {name.rpartition(".")[2] for name, module in decoder.named_modules() if isinstance(module, nn.Linear)}
        targets = dpo.lora.target_modules
        if not targets or set(targets) - linear:
            raise ConfigError(f"dpo.lora.target_modules is {targets}; allowed are some of {', '.join(sorted(linear))}")
    if not isinstance(settings, MiniCPMVConfig):
        own = {
            "dpo.max_answer_tokens": dpo.max_answer_tokens is not None,
            "dpo.trainer.max_length": dpo.trainer.get("max_length") is not None,
            "dpo.lora.train_resampler": dpo.method == "lora" and dpo.lora.train_resampler,
        }
        if given := [name for name, is_given in own.items() if is_given]:
            raise ConfigError(f"{given[0]} works with MiniCPM-V only, and {section.model} is {settings.model_type!r}")


def load_config(section: ModelSection) -> PreTrainedConfig:
    """Errors: ModelError: it is of no type that transformers knows."""
    try:
        return AutoConfig.from_pretrained(section.model, revision=section.revision, trust_remote_code=False)
    except ValueError as error:
        raise ModelError(f"{section.model}: {' '.join(str(error).split())}") from error


def load_policy(section: ModelSection, trains: bool) -> PreTrainedModel:
    """With dtype `auto`, a model that trains is float32 (bfloat16 would round a step of DPO away), others as stored.

    Errors: ModelError: the checkpoint is damaged, or not wholly this model's.
    """
    dtype = "float32" if section.dtype == "auto" and trains else section.dtype
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            section.model,
            revision=section.revision,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
        )
    except (ValueError, OSError) as error:  # OSError: there are no weights in safetensors
        raise ModelError(" ".join(str(error).split())) from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):  # of a model that is not ours: ours has told by now
        raise ModelError(f"{section.model} lacks {len(missing)} of its tensors, such as {missing[0]}; copy it again")
    return model


def load_collator(section: ModelSection, dpo: DpoSection, max_length: int | None) -> Collator:
    """What turns pairs into batches of this model."""
    processor = AutoProcessor.from_pretrained(section.model, revision=section.revision, trust_remote_code=False)
    if isinstance(processor, MiniCPMVProcessor):
        return PairCollator(processor, dpo.max_answer_tokens, max_length, dpo.shared_prefix)
    return StockCollator(processor)


def lora_config(section: LoraSection, model: PreTrainedModel) -> LoraConfig:
    """Adapters on the language model alone: layers of the vision encoder have some of the same names."""
    decoder = next(name for name, module in model.named_modules() if module is model.get_decoder())
    targets = "|".join(map(re.escape, section.target_modules))
    return LoraConfig(
        r=section.r,
        lora_alpha=section.alpha,  # type: ignore[arg-type]
        lora_dropout=section.dropout,
        target_modules=rf"{re.escape(decoder)}\..*\.({targets})",
        modules_to_save=["resampler"] if section.train_resampler else None,
    )


def save_policy(model: Any, collator: Collator, section: ModelSection, folder: Path) -> None:
    """Save model and processor; a half-written policy is never seen in `folder`.

    The precision is the one that the section names; for `auto`, the one in which the policy it names is stored.
    """
    start = load_config(section)
    dtype = start.dtype or torch.float32 if section.dtype == "auto" else getattr(torch, section.dtype)
    model.config = start  # Trainer switched its cache off, for good
    with atomic_folder(folder) as temporary:
        model.to(dtype).save_pretrained(temporary)
        collator.processor.save_pretrained(temporary)
