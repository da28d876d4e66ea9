"""The policy as it is loaded, which of its parts train, and how the aligned one is saved."""

import os
import re
import shutil
from pathlib import Path

import torch
from peft import LoraConfig
from torch import nn
from transformers import PretrainedConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from model.parts import PARTS
from rlaif.config import Config, LoraSection, ModelSection
from rlaif.errors import ConfigError, ModelError


def check_policy(config: Config) -> None:
    """Find what cannot work before the run folder is bound to it. Errors: ModelError, ConfigError."""
    section, dpo = config.policy, config.dpo
    kind = PretrainedConfig.get_config_dict(section.model, revision=section.revision)[0].get("model_type")
    if kind != "minicpmv":
        raise ModelError(f"{section.model} is a model of type {kind!r}; dpo trains 'minicpmv'. Set policy.model to one")
    if dpo.method == "full" and PARTS.keys() <= set(dpo.freeze):
        raise ConfigError(f"dpo.freeze names every part ({', '.join(PARTS)}), so that nothing trains; leave one out")
    if dpo.method == "lora":
        with torch.device("meta"):
            layer = LlamaDecoderLayer(MiniCPMVConfig.from_pretrained(section.model, revision=section.revision), 0)
        linear = {name.rpartition(".")[2] for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
        targets = dpo.lora.target_modules
        if not targets or set(targets) - linear:
            raise ConfigError(f"dpo.lora.target_modules is {targets}; allowed are some of {', '.join(sorted(linear))}")


def load_policy(section: ModelSection, method: str) -> MiniCPMVForConditionalGeneration:
    """With dtype `auto`, weights that train are float32 (bfloat16 would round a step of DPO away), others as stored.

    Errors: ModelError: the checkpoint is damaged, or not wholly this model's.
    """
    dtype = "float32" if (section.dtype, method) == ("auto", "full") else section.dtype
    try:
        return MiniCPMVForConditionalGeneration.from_pretrained(section.model, revision=section.revision, dtype=dtype)
    except ValueError as error:
        raise ModelError(str(error)) from error


def lora_config(section: LoraSection) -> LoraConfig:
    """Adapters on the language model alone: layers of the vision encoder have some of the same names."""
    targets = "|".join(map(re.escape, section.target_modules))
    return LoraConfig(
        r=section.r,
        lora_alpha=section.alpha,  # type: ignore[arg-type]
        lora_dropout=section.dropout,
        target_modules=rf".*\.language_model\..*\.({targets})",
        modules_to_save=["resampler"] if section.train_resampler else None,
    )


def save_policy(
    model: MiniCPMVForConditionalGeneration, processor: MiniCPMVProcessor, section: ModelSection, folder: Path
) -> None:
    """Save model and processor beside `folder`, then put them in its place: a half-written policy is never seen there.

    The precision is the one that the section names; for `auto`, the one in which the policy it names is stored.
    """
    start = MiniCPMVConfig.from_pretrained(section.model, revision=section.revision)
    model.config.use_cache = start.use_cache  # Trainer switches it off, for good
    dtype = start.dtype or torch.float32 if section.dtype == "auto" else getattr(torch, section.dtype)
    temporary = folder.with_name(f".{folder.name}.tmp")
    for leftover in (temporary, folder):  # of a try that was killed before its stage could finish
        shutil.rmtree(leftover, ignore_errors=True)
    model.to(dtype).save_pretrained(temporary)
    processor.save_pretrained(temporary)
    os.replace(temporary, folder)
