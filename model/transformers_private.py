"""Every use of private or unstable API of transformers, with its reason. Tested with transformers 5.19.0.

When transformers moves, `tests/model/test_transformers_private.py` says what broke. Not counted as private: the class
attributes and hooks that a custom model defines (`_init_weights`, `_no_split_modules`, `_supports_sdpa`, ...),
which its guide for new models documents.
"""

import json
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from tokenizers import Tokenizer
from torch import nn

# FlexAttention as an attention of transformers' models, with the grouped heads and the compiling that it wants.
from transformers.integrations.flex_attention import flex_attention_forward

# Documented, but not exported by the package: the mask of a bidirectional encoder, for whichever attention is set.
from transformers.masking_utils import create_bidirectional_mask

# The transformer layers of SigLIP: copying them would lose sdpa, FlashAttention and gradient checkpointing.
from transformers.models.siglip.modeling_siglip import SiglipEncoder
from transformers.trainer_utils import get_last_checkpoint

__all__ = [
    "TESTED_VERSION",
    "ReleasedCheckpoints",
    "SiglipEncoder",
    "create_bidirectional_mask",
    "declare_text",
    "flex_attention_forward",
    "last_complete_checkpoint",
    "register_released_names",
]

TESTED_VERSION = "5.19.0"


def register_released_names(class_name: str, prefixes: Mapping[str, str]) -> None:
    """Rename tensors between our prefixes and the released ones whenever a model of this class is loaded or saved.

    Unstable: conversion mappings are new in transformers 5 and not exported. `key_mapping` of `from_pretrained` is the
    public way, but a model that was not loaded with it is saved under our names.
    """
    from transformers.conversion_mapping import register_checkpoint_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming

    names: list[WeightConverter | WeightRenaming] = [
        WeightRenaming(source_patterns=f"^{re.escape(released)}", target_patterns=ours)
        for ours, released in prefixes.items()
    ]
    register_checkpoint_conversion_mapping(class_name, names, overwrite=True)


def declare_text(tokenizer: Any, tokens: Collection[str]) -> None:
    """Make added tokens that are declared special ordinary ones; they keep their ids.

    Private: the attribute that holds the Rust tokenizer, which can declare a token special, but not the reverse; and
    the arguments that are saved.
    """
    values = json.loads(tokenizer.backend_tokenizer.to_str())
    for added in values["added_tokens"]:
        added["special"] = added["special"] and added["content"] not in tokens
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(values))
    for added in tokenizer.init_kwargs.get("added_tokens_decoder", {}).values():
        added.special = added.special and added.content not in tokens
    tokenizer.extra_special_tokens = [token for token in tokenizer.extra_special_tokens if token not in tokens]


class ReleasedCheckpoints:
    """Mixed into a Trainer: loads checkpoints in the released layout.

    Private: two methods of Trainer. Trainer loads tensors by their names in the file and skips the rest, so that
    released names would load nothing; there is no public hook.
    """

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        model = self.model if model is None else model
        if is_peft_model(model) or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
        else:
            kind: Any = type(model)
            # float32: frozen weights may be in bfloat16, but not those that train
            saved = kind.from_pretrained(resume_from_checkpoint, use_safetensors=True, dtype=torch.float32)
            model.load_state_dict(saved.state_dict())

    def _load_best_model(self: Any) -> None:
        """For `load_best_model_at_end`."""
        assert self.state.best_model_checkpoint is not None
        self._load_from_checkpoint(self.state.best_model_checkpoint)


def last_complete_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint of a Trainer; incomplete ones, which a kill cut short, are removed.

    Private: Trainer writes trainer_state.json last.
    """
    if not folder.is_dir():
        return None
    newest: str | None
    while (newest := get_last_checkpoint(str(folder))) and not (Path(newest) / "trainer_state.json").is_file():
        shutil.rmtree(newest)
    return newest
