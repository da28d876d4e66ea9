"""Load the policy, choose the parts that train, and save the aligned policy.

Written for MiniCPM-V; other image-text models of transformers are aligned with TRL's collator.
"""

import importlib.util
import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import nn
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from dpo.collator import Collator, PairCollator, StockCollator
from model import MiniCPMVConfig, MiniCPMVProcessor
from model.parts import PARTS
from rlaif.config import Config, DpoSection, LoraSection, ModelSection
from rlaif.errors import ConfigError, ModelError
from rlaif.memory.settings import check_four_bits
from rlaif.processes import launched_sharding
from rlaif.storage.files import atomic_folder
from rlaif.storage.model_folder import complete_model

INSTALL_BITSANDBYTES = ".venv/bin/python -m pip install --no-deps bitsandbytes==0.50.2"  # as in requirements/cuda.txt


def check_policy(config: Config) -> None:
    """Check model and settings before the run folder is bound to them. Errors: ModelError, ConfigError."""
    section, dpo = config.policy, config.dpo
    settings = load_config(section)
    if type(settings) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ModelError(
            f"{section.model} has model type {settings.model_type!r}; expected an image-text model of transformers; "
            "set policy.model to one"
        )
    if dpo.method == "full" and set(PARTS) <= set(dpo.freeze):
        raise ConfigError(f"dpo.freeze names every part ({', '.join(PARTS)}), so that nothing would train; remove one")
    if dpo.cache_vision is not None and dpo.method == "full" and "vision" not in dpo.freeze:
        raise ConfigError(
            f"dpo.cache_vision is {dpo.cache_vision}, but the vision encoder trains (dpo.freeze is {dpo.freeze}), so "
            "that nothing can be kept; add vision to dpo.freeze, or remove dpo.cache_vision"
        )
    if dpo.quantization is not None:
        check_four_bits(launched_sharding())
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ConfigError(
                "dpo.quantization is 4bit, which needs bitsandbytes, but it is not installed; install it: "
                f"{INSTALL_BITSANDBYTES}"
            )
    if dpo.method == "lora":
        with torch.device("meta"):
            decoder: Any = AutoModelForImageTextToText.from_config(settings).get_decoder()
        linear = {name.rpartition(".")[2] for name, module in decoder.named_modules() if isinstance(module, nn.Linear)}
        targets = dpo.lora.target_modules
        if not targets or set(targets) - linear:
            raise ConfigError(f"dpo.lora.target_modules is {targets}; choose from {', '.join(sorted(linear))}")
    if not isinstance(settings, MiniCPMVConfig):
        minicpmv_only = {
            "dpo.max_answer_tokens": dpo.max_answer_tokens is not None,
            "dpo.trainer.max_length": dpo.trainer.get("max_length") is not None,
            "dpo.lora.train_resampler": dpo.method == "lora" and dpo.lora.train_resampler,
            "dpo.cache_vision": dpo.cache_vision is not None,
        }
        if used := [name for name, is_set in minicpmv_only.items() if is_set]:
            raise ConfigError(
                f"{used[0]} works with MiniCPM-V only, but {section.model} has model type {settings.model_type!r}; "
                "remove it"
            )


def load_config(section: ModelSection) -> PreTrainedConfig:
    """The configuration of a checkpoint. Errors: ModelError for a type that transformers does not know."""
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            section.model, revision=section.revision, trust_remote_code=False
        )
    except ValueError as error:
        raise ModelError(f"{section.model}: {' '.join(str(error).split())}") from error
    return config


def load_policy(section: ModelSection, trains: bool, compute: torch.dtype | None = None) -> PreTrainedModel:
    """Load a policy. A model all of whose weights train is float32, whatever its dtype: DPO's updates are smaller than
    the rounding step of most weights in bfloat16, and would be lost.

    compute: the precision in which a language model of 4-bit matrices computes; None: it is not quantized.
    Errors: ModelError if the checkpoint is damaged or incomplete.
    """
    dtype = "float32" if trains else section.dtype
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            section.model,
            revision=section.revision,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            quantization_config=None if compute is None else four_bits(load_config(section), compute),
            output_loading_info=True,
        )
    except (ValueError, OSError) as error:  # OSError: no weights in safetensors
        raise ModelError(" ".join(str(error).split())) from error
    model: PreTrainedModel = loaded[0]
    info: dict[str, Any] = loaded[1]
    if missing := sorted(info["missing_keys"]):  # of other models; ours raises while it loads
        raise ModelError(f"{section.model} lacks {len(missing)} tensors, such as {missing[0]}; copy it again")
    if isinstance(model.config, MiniCPMVConfig):  # by its name, as released configurations do not have its id
        processor: Any = AutoProcessor.from_pretrained(
            section.model, revision=section.revision, trust_remote_code=False
        )
        model.config.image_token_id = processor.image_token_id
    return model


def four_bits(config: PreTrainedConfig, compute: torch.dtype) -> BitsAndBytesConfig:
    """The settings of QLoRA (Dettmers et al., arXiv 2305.14314, section 3): the linear layers of the decoder are held
    in NF4 with doubly quantized scales, and computed in `compute`. All else keeps its precision.
    """
    with torch.device("meta"):
        model: Any = AutoModelForImageTextToText.from_config(config)
    decoder = set(model.get_decoder().modules())
    others = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module not in decoder]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=others,  # for 4 bits too, in spite of its name
    )


def load_collator(
    section: ModelSection, dpo: DpoSection, max_length: int | None, answers_are_cut: bool = False
) -> Collator:
    """The collator for a policy; answers_are_cut: they get no end token.

    Errors: ConfigError: answers are cut, and the model is not MiniCPM-V.
    """
    processor = AutoProcessor.from_pretrained(section.model, revision=section.revision, trust_remote_code=False)
    if isinstance(processor, MiniCPMVProcessor):
        return PairCollator(processor, dpo.max_answer_tokens, max_length, dpo.shared_prefix, not answers_are_cut)
    if answers_are_cut:
        raise ConfigError(
            f"the pairs were made with feedback.pairs=first_difference, which works with MiniCPM-V only, but "
            f"{section.model} is another model, whose chat template ends every answer; make pairs of responses"
        )
    return StockCollator(processor)


def lora_config(section: LoraSection, model: PreTrainedModel) -> LoraConfig:
    """Adapters for the language model only: the vision encoder has layers of the same names."""
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
    """Save model and processor atomically, in the precision of the section; for `auto`, in that of the checkpoint; with
    what other programs need to load them (`rlaif.storage.model_folder`).
    """
    start = load_config(section)
    dtype = start.dtype or torch.float32 if section.dtype == "auto" else getattr(torch, section.dtype)
    model.config = start  # Trainer has disabled its cache
    with atomic_folder(folder) as temporary:
        model.to(dtype).save_pretrained(temporary)
        processor: Any = collator.processor
        processor.save_pretrained(temporary)
        end_of_turn = processor.end_of_turn if isinstance(processor, MiniCPMVProcessor) else None
        complete_model(temporary, section, processor.tokenizer, end_of_turn)
