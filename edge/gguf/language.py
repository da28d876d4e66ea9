"""The language model as GGUF: names, rows of q and k in the order of llama.cpp, widths padded to whole blocks.

Architecture `llama` for 2.5, `qwen2` for 2.6.

k-quants store blocks of 256 weights along a row, so rows must be divisible by 256. Where a width is not, such as
192, everything is padded with zeros at its end, which changes no output:

- RMSNorm divides by the root of the mean of squares. Over padded values that mean is smaller by width / padded, so the
  norm's weight is multiplied by sqrt(width / padded) and its epsilon by width / padded.
- A head of zeros attends evenly to values of zeros, and its columns of the output projection are zeros.
- A row of zeros in gate and up gives silu(0) * 0 = 0.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import nn

from edge.gguf.file import Shape, Tensor, Value
from edge.gguf.weights import Weights
from model import MiniCPMVConfig
from rlaif.errors import ModelError

BLOCK = 256  # weights of a k-quant's block
ARCHITECTURES = {"2.5": "llama", "2.6": "qwen2"}
ALL_F32, MOSTLY_F16 = 0, 1  # general.file_type, as llama.cpp numbers them

# In a layer: (released name, name in GGUF, what its axes are); rows first, as torch has them.
MATRICES = (
    ("self_attn.q_proj.weight", "attn_q.weight", ("heads", "width")),
    ("self_attn.k_proj.weight", "attn_k.weight", ("kv_heads", "width")),
    ("self_attn.v_proj.weight", "attn_v.weight", ("kv_heads", "width")),
    ("self_attn.o_proj.weight", "attn_output.weight", ("width", "heads")),
    ("mlp.gate_proj.weight", "ffn_gate.weight", ("ffn", "width")),
    ("mlp.up_proj.weight", "ffn_up.weight", ("ffn", "width")),
    ("mlp.down_proj.weight", "ffn_down.weight", ("width", "ffn")),
)
BIASES = (  # of 2.6
    ("self_attn.q_proj.bias", "attn_q.bias", ("heads",)),
    ("self_attn.k_proj.bias", "attn_k.bias", ("kv_heads",)),
    ("self_attn.v_proj.bias", "attn_v.bias", ("kv_heads",)),
)
NORMS = (
    ("input_layernorm.weight", "attn_norm.weight"),
    ("post_attention_layernorm.weight", "ffn_norm.weight"),
)
PERMUTED = ("self_attn.q_proj.weight", "self_attn.k_proj.weight")


def whole_blocks(length: int) -> int:
    """The next multiple of BLOCK."""
    return -(-length // BLOCK) * BLOCK


@dataclass(frozen=True)
class Widths:
    """Sizes of a language model; `heads` and `kv_heads` are numbers of heads of `head_width`."""

    width: int
    ffn: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int

    @classmethod
    def of(cls, config: MiniCPMVConfig) -> Self:
        kv_heads = config.num_key_value_heads or config.num_attention_heads
        head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            config.hidden_size,
            config.intermediate_size,
            config.num_attention_heads,
            kv_heads,
            head_width,
            config.vocab_size,
        )

    def padded(self, architecture: str) -> Self:
        """Every row in whole blocks; keys and values are shared by as many heads as before.

        Errors: ModelError: no number of heads fits (the architecture qwen2 wants heads * head_width to be the width).
        """
        width, ffn, shared = whole_blocks(self.width), whole_blocks(self.ffn), self.heads // self.kv_heads
        kv_heads = self.kv_heads
        while kv_heads * shared * self.head_width % BLOCK:
            kv_heads += 1
        if architecture == "qwen2" and kv_heads * shared * self.head_width != width:
            raise ModelError(
                f"the language model has {self.heads} heads of {self.head_width} and the width {self.width}, which "
                f"llama.cpp's architecture qwen2 cannot store padded to {width}; expected widths that are multiples of "
                f"{BLOCK}; train a model of such a width"
            )
        return type(self)(width, ffn, kv_heads * shared, kv_heads, self.head_width, self.vocabulary)

    def shape(self, axes: tuple[str, ...]) -> Shape:
        lengths = {
            "width": self.width,
            "ffn": self.ffn,
            "heads": self.heads * self.head_width,
            "kv_heads": self.kv_heads * self.head_width,
            "vocabulary": self.vocabulary,
        }
        return tuple(lengths[axis] for axis in axes)


def permute_rows(weight: torch.Tensor, head_width: int) -> torch.Tensor:
    """Rows [heads * head_width, ...] in the order of llama.cpp's rotary embedding.

    It rotates neighbours (0, 1), (2, 3) of a head where transformers rotates halves: row i of the first half and row i
    of the second half become neighbours.
    """
    halves: torch.Tensor = weight.unflatten(0, (-1, 2, head_width // 2))  # [heads, 2, head_width / 2, ...]
    return halves.transpose(1, 2).flatten(0, 2)


def pad(tensor: torch.Tensor, shape: Shape) -> torch.Tensor:
    """The tensor with zeros after its end, along each axis."""
    widths = [amount for old, new in zip(tensor.shape, shape, strict=True) for amount in (new - old, 0)]
    return nn.functional.pad(tensor, widths[::-1])


def language_metadata(config: MiniCPMVConfig, name: str) -> dict[str, Value]:
    """The keys that llama.cpp reads beside those of the tokenizer."""
    architecture, widths = ARCHITECTURES[config.version], Widths.of(config)
    padded = widths.padded(architecture)
    rope = config.rope_parameters or {}
    if (kind := rope.get("rope_type", "default")) != "default":
        raise ModelError(
            f"config.json has rope_type {kind!r}, expected 'default', as MiniCPM-V 2.5 and 2.6 have; export another "
            "policy"
        )
    return {
        "general.type": "model",
        "general.name": name,
        "general.file_type": MOSTLY_F16,
        "general.quantization_version": 2,
        f"{architecture}.vocab_size": padded.vocabulary,
        f"{architecture}.context_length": config.max_position_embeddings,
        f"{architecture}.embedding_length": padded.width,
        f"{architecture}.block_count": config.num_hidden_layers,
        f"{architecture}.feed_forward_length": padded.ffn,
        f"{architecture}.attention.head_count": padded.heads,
        f"{architecture}.attention.head_count_kv": padded.kv_heads,
        f"{architecture}.attention.key_length": padded.head_width,
        f"{architecture}.attention.value_length": padded.head_width,
        f"{architecture}.attention.layer_norm_rms_epsilon": config.rms_norm_eps * widths.width / padded.width,
        f"{architecture}.rope.dimension_count": padded.head_width,
        f"{architecture}.rope.freq_base": float(rope["rope_theta"]),
        "rlaif.embedding_width": widths.width,
    }


def language_tensors(weights: Weights, config: MiniCPMVConfig) -> list[Tensor]:
    """The tensors of the file, matrices in float16 and vectors in float32.

    Errors: ModelError: the weights are not those of the configuration.
    """
    architecture, widths = ARCHITECTURES[config.version], Widths.of(config)
    padded = widths.padded(architecture)
    entries = list(_entries(config))
    weights.require({released: widths.shape(axes) for released, _, axes in entries})

    def read(released: str, axes: tuple[str, ...]) -> torch.Tensor:
        tensor = weights[released]
        if axes == ("width",):  # a norm's
            tensor = tensor.float() * math.sqrt(widths.width / padded.width)
        if architecture == "llama" and released.endswith(PERMUTED):
            tensor = permute_rows(tensor, widths.head_width)
        return pad(tensor, padded.shape(axes))

    return [
        Tensor(name, padded.shape(axes), half=len(axes) == 2, read=partial(read, released, axes))
        for released, name, axes in entries
    ]


def _entries(config: MiniCPMVConfig) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(released name, name in GGUF, axes) of every tensor."""
    yield "llm.model.embed_tokens.weight", "token_embd.weight", ("vocabulary", "width")
    for layer in range(config.num_hidden_layers):
        for released, name in NORMS:
            yield f"llm.model.layers.{layer}.{released}", f"blk.{layer}.{name}", ("width",)
        for released, name, axes in (*MATRICES, *(BIASES if config.version == "2.6" else ())):
            yield f"llm.model.layers.{layer}.{released}", f"blk.{layer}.{name}", axes
    yield "llm.model.norm.weight", "output_norm.weight", ("width",)
    if not config.tie_word_embeddings:  # llama.cpp takes the input embeddings otherwise
        yield "llm.lm_head.weight", "output.weight", ("vocabulary", "width")
