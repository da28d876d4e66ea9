"""Shapes of a model, from its config.json: parameters by part, built without memory."""

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig

from model import MiniCPMVConfig
from model.parts import Part, parameters_by_part
from rlaif.config import ModelSection
from rlaif.errors import ModelError

OURS = MiniCPMVConfig.model_type
# The config.json of three public models, as far as it decides shapes: for a machine that has none of them yet.
PUBLISHED: dict[str, dict[str, Any]] = {
    "openbmb/MiniCPM-Llama3-V-2_5": {"model_type": OURS, "version": "2.5"},  # the defaults of MiniCPMVConfig
    "openbmb/MiniCPM-V-2_6": {
        "model_type": OURS,
        "version": "2.6",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 151666,
        "query_num": 64,
        "max_position_embeddings": 32768,
    },
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        "model_type": "qwen2_5_vl",
        "text_config": {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
            "max_position_embeddings": 128000,
        },
        "vision_config": {"hidden_size": 1280, "intermediate_size": 3420, "depth": 32, "out_hidden_size": 3584},
        "tie_word_embeddings": False,
    },
}
STORED_AS = "bfloat16"  # what `dtype: auto` means for them


@dataclass(frozen=True, eq=False)
class Shape:
    """A model without its weights. source: where the shapes come from, in words.

    parts: part -> parameters. matrices: (name, inputs, outputs) of each linear layer of the language model, without its
    output layer: what LoRA adapts and 4 bits hold.
    """

    name: str
    source: str
    config: PretrainedConfig
    parts: dict[Part, int]
    matrices: tuple[tuple[str, int, int], ...]

    @property
    def parameters(self) -> int:
        return sum(self.parts.values())

    @property
    def linear(self) -> int:
        """Weights of `matrices`."""
        return sum(inputs * outputs for _, inputs, outputs in self.matrices)

    @property
    def output(self) -> int:
        """Weights of the output layer: words x width."""
        return int(self.text.vocab_size * self.text.hidden_size)

    @property
    def text(self) -> Any:
        """The configuration of the language model."""
        return self.config.get_text_config()

    @property
    def is_minicpmv(self) -> bool:
        return bool(self.config.model_type == OURS)

    @property
    def stored_as(self) -> str:
        """Precision of the checkpoint's weights, which `dtype: auto` takes."""
        return str(self.config.dtype or "float32").removeprefix("torch.")

    def key_value_bytes(self, bytes_per_value: float) -> float:
        """Bytes of the keys and values of one token: 2 x layers x KV heads x head width x bytes of a value."""
        text = self.text
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        heads = int(text.num_key_value_heads or text.num_attention_heads)
        return float(2 * text.num_hidden_layers * heads * width * bytes_per_value)


def shape_of(section: ModelSection) -> Shape:
    """The shape of a model that is not served by an endpoint. Errors: ModelError if its config.json is out of reach."""
    if not Path(section.model).is_dir() and not section.is_hub_id:
        raise ModelError(
            f"there is no model folder {section.model}; run the stage that writes it first, or name a model in its "
            f"place, such as {next(iter(PUBLISHED))}"
        )
    return _shape(section.model, section.revision)


@cache
def _shape(name: str, revision: str | None) -> Shape:
    config, source = _config(name, revision)
    with torch.device("meta"):
        model = build(config)
    decoder: Any = model.get_decoder()
    matrices = tuple(
        (name.rpartition(".")[2], module.in_features, module.out_features)
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear)
    )
    if type(model).__name__.endswith("ForCausalLM"):
        parts: dict[Part, int] = {"vision": 0, "resampler": 0, "llm": sum(p.numel() for p in model.parameters())}
    else:
        parts = dict.fromkeys(("vision", "resampler", "llm"), 0)
        for part, parameter in parameters_by_part(model):
            parts[part] += parameter.numel()
    return Shape(name, source, config, parts, matrices)


def build(config: PretrainedConfig) -> Any:
    """The model of a configuration: an image-text model, or, for a splitter, a language model. Errors: ModelError."""
    for kind in (AutoModelForImageTextToText, AutoModelForCausalLM):
        if type(config) in kind._model_mapping:
            return kind.from_config(copy.deepcopy(config))
    raise ModelError(
        f"model type {config.model_type!r} is unknown to transformers, so that its memory cannot be reckoned; name an "
        "image-text model of transformers"
    )


def _config(name: str, revision: str | None) -> tuple[PretrainedConfig, str]:
    """The configuration of a model and where it is from. Errors: ModelError."""
    options: dict[str, Any] = {"revision": revision}
    try:
        if Path(name).is_dir():
            return AutoConfig.from_pretrained(name, trust_remote_code=False), f"{name}/config.json"
        try:
            cached = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False, **options)
            return cached, "config.json in the hub's cache"
        except OSError:
            if name in PUBLISHED:
                values = dict(PUBLISHED[name])
                return AutoConfig.for_model(values.pop("model_type"), dtype=STORED_AS, **values), (
                    "built-in public shapes: the model is not on this machine yet"
                )
            return AutoConfig.from_pretrained(name, trust_remote_code=False, **options), "config.json of the hub"
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"the config.json of {name} is out of reach ({reason}); download the model, or name one of "
            f"{', '.join(PUBLISHED)}"
        ) from error
