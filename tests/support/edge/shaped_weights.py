"""Weights of a language model that are made when they are read, so that any size can be asked for its shapes."""

from pathlib import Path
from typing import Any

import torch

from edge.gguf.weights import Weights
from model import MiniCPMVConfig


class Shaped:
    """Stands for an open safetensors file: shapes as given, values drawn when they are read."""

    def __init__(self, shapes: dict[str, list[int]]) -> None:
        self.shapes = shapes

    def get_slice(self, name: str) -> Any:
        shape = self.shapes[name]
        return type("Slice", (), {"get_shape": lambda _: shape})()

    def get_tensor(self, name: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(len(name))
        return torch.randn(self.shapes[name], generator=generator) * 0.05


def shaped_language(config: MiniCPMVConfig) -> Weights:
    """The language model of 2.5 in the released layout."""
    width, ffn, vocabulary = config.hidden_size, config.intermediate_size, config.vocab_size
    keys = width * (config.num_key_value_heads or config.num_attention_heads) // config.num_attention_heads
    layer = {
        "self_attn.q_proj": [width, width], "self_attn.k_proj": [keys, width], "self_attn.v_proj": [keys, width],
        "self_attn.o_proj": [width, width], "mlp.gate_proj": [ffn, width], "mlp.up_proj": [ffn, width],
        "mlp.down_proj": [width, ffn], "input_layernorm": [width], "post_attention_layernorm": [width],
    }  # fmt: skip
    shapes = {
        f"llm.model.layers.{index}.{name}.weight": shape
        for index in range(config.num_hidden_layers)
        for name, shape in layer.items()
    }
    shapes |= {"llm.model.embed_tokens.weight": [vocabulary, width], "llm.lm_head.weight": [vocabulary, width]}
    shapes["llm.model.norm.weight"] = [width]
    return Weights(Path("shaped"), dict.fromkeys(shapes, Shaped(shapes)))
