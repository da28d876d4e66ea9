"""The vision encoder and the resampler as the mmproj file of llama.cpp: architecture `clip`, projector `resampler`.

Names are those of llama.cpp's converter for MiniCPM-V 2.5. It calls the first linear layer of a block `ffn_down` and
the second `ffn_up`; llama.cpp swaps them while it loads.

Everything is float16 or float32: the released widths 1152 and 4304 take no k-quants.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from edge.gguf.file import Shape, Tensor, Value
from edge.gguf.language import ALL_F32, ARCHITECTURES, MOSTLY_F16, Widths
from edge.gguf.positions import FittedTable, fit_table
from edge.gguf.resampler import FittedResampler, fit_resampler
from edge.gguf.weights import Weights
from model import MiniCPMVConfig, MiniCPMVImageProcessor
from model.configuration import MiniCPMVVisionConfig
from model.resampler import LAYER_NORM_EPS
from rlaif.errors import ModelError

VERSIONS = {"2.5": 2, "2.6": 3}  # clip.minicpmv_version
MOST_SLICES = 9  # fixed in llama.cpp
LONG_SLICE = 3  # positions are fitted to slices of up to so many times the side of a square one

BLOCK_LAYERS = (  # released name, name in GGUF, rows, columns
    ("self_attn.q_proj", "attn_q", "width", "width"),
    ("self_attn.k_proj", "attn_k", "width", "width"),
    ("self_attn.v_proj", "attn_v", "width", "width"),
    ("self_attn.out_proj", "attn_out", "width", "width"),
    ("layer_norm1", "ln1", "width", ""),
    ("mlp.fc1", "ffn_down", "ffn", "width"),
    ("mlp.fc2", "ffn_up", "width", "ffn"),
    ("layer_norm2", "ln2", "width", ""),
)


@dataclass(frozen=True)
class Mmproj:
    """Metadata and tensors of the file, and what of it is not exact in llama.cpp."""

    metadata: dict[str, Value]
    tensors: list[Tensor]
    resampler: FittedResampler


def build_mmproj(weights: Weights, config: MiniCPMVConfig, images: MiniCPMVImageProcessor, name: str) -> Mmproj:
    """Errors: ModelError: the weights are not those of the configuration, or llama.cpp cannot compute the model."""
    vision = config.vision_config
    assert isinstance(vision, MiniCPMVVisionConfig)
    for setting, value, expected in (
        ("vision_config.layer_norm_eps", vision.layer_norm_eps, LAYER_NORM_EPS),  # llama.cpp has one for both
        ("vision_config.hidden_act", vision.hidden_act, "gelu_pytorch_tanh"),
        ("drop_vision_last_layer", config.drop_vision_last_layer, False),
    ):
        if value != expected:
            raise ModelError(
                f"config.json has {setting} {value!r}, expected {expected!r}, the only one that llama.cpp computes for "
                "MiniCPM-V; use `make edge-answer`, which needs no mmproj"
            )
    padded = Widths.of(config).padded(ARCHITECTURES[config.version]).width
    weights.require(vision_shapes(vision) | resampler_shapes(config, vision))
    square = images.scale_resolution // images.patch_size
    released = resampler_shapes(config, vision)
    fitted = fit_resampler(
        {entry.removeprefix("resampler."): weights[entry] for entry in released}, padded, LONG_SLICE * square
    )
    exact_half = padded == config.hidden_size  # what was fitted is stored as precisely as it was computed
    tensors = [
        Tensor(entry, tuple(tensor.shape), exact_half and is_half(entry, tensor.shape), tensor.contiguous)
        for entry, tensor in resampler_tensors(fitted)
    ]
    table = fit_table(weights["vpm.embeddings.position_embedding.weight"], vision, images.scale_resolution)
    tensors += vision_tensors(weights, vision, table)
    metadata: dict[str, Value] = {
        "general.name": name,
        "general.description": "image encoder for MiniCPM-V",
        "general.file_type": MOSTLY_F16 if any(tensor.half for tensor in tensors) else ALL_F32,
        "clip.has_text_encoder": False,
        "clip.has_vision_encoder": True,
        "clip.has_minicpmv_projector": True,
        "clip.projector_type": "resampler",
        "clip.minicpmv_version": np.int32(VERSIONS[config.version]),
        "clip.minicpmv_query_num": config.query_num,
        "clip.use_gelu": True,
        "clip.vision.image_size": images.scale_resolution,
        "clip.vision.patch_size": vision.patch_size,
        "clip.vision.embedding_length": vision.hidden_size,
        "clip.vision.feed_forward_length": vision.intermediate_size,
        "clip.vision.projection_dim": 0,
        "clip.vision.attention.head_count": vision.num_attention_heads,
        "clip.vision.attention.layer_norm_epsilon": vision.layer_norm_eps,
        "clip.vision.block_count": vision.num_hidden_layers,
        "clip.vision.image_mean": [float(value) for value in images.norm_mean],
        "clip.vision.image_std": [float(value) for value in images.norm_std],
        "rlaif.embedding_width": config.hidden_size,
        "rlaif.positions": vision.position_embedding_type,
        "rlaif.positions_exact": table.exact,
        "rlaif.score_error": fitted.score_error,
    }
    return Mmproj(metadata, tensors, fitted)


def is_half(name: str, shape: torch.Size | Shape) -> bool:
    """Whether llama.cpp's converter writes float16: matrices that are called weight, and the patch embedding."""
    return len(shape) == 4 or (len(shape) == 2 and name.endswith(".weight"))


def resampler_tensors(fitted: FittedResampler) -> Iterator[tuple[str, torch.Tensor]]:
    """(name in GGUF, tensor); the projection transposed, because llama.cpp multiplies by rows."""
    for name, tensor in fitted.tensors.items():
        if name == "proj":
            yield "resampler.proj.weight", tensor.T
        else:
            yield f"resampler.{name.replace('_proj', '')}", tensor
    # must be there; llama.cpp computes positions itself, so one row does
    yield "resampler.pos_embed_k", torch.zeros(1, fitted.tensors["query"].shape[1])


def vision_tensors(weights: Weights, vision: MiniCPMVVisionConfig, table: FittedTable) -> list[Tensor]:
    """table: of positions."""
    shapes = vision_shapes(vision)
    tensors = []
    for released, name in vision_names(vision):
        read: Callable[[], torch.Tensor] = partial(weights.__getitem__, released)
        shape = shapes[released]
        if name == "v.position_embd.weight":
            read, shape = table.values.contiguous, tuple(table.values.shape)
        tensors.append(Tensor(name, shape, is_half(name, shape), read))
    return tensors


def vision_names(vision: MiniCPMVVisionConfig) -> Iterator[tuple[str, str]]:
    """(released name, name in GGUF) of every tensor of the vision encoder."""
    yield "vpm.embeddings.patch_embedding.weight", "v.patch_embd.weight"
    yield "vpm.embeddings.patch_embedding.bias", "v.patch_embd.bias"
    yield "vpm.embeddings.position_embedding.weight", "v.position_embd.weight"
    for layer in range(vision.num_hidden_layers):
        for released, name, _, _ in BLOCK_LAYERS:
            for kind in ("weight", "bias"):
                yield f"vpm.encoder.layers.{layer}.{released}.{kind}", f"v.blk.{layer}.{name}.{kind}"
    yield "vpm.post_layernorm.weight", "v.post_ln.weight"
    yield "vpm.post_layernorm.bias", "v.post_ln.bias"


def vision_shapes(vision: MiniCPMVVisionConfig) -> dict[str, Shape]:
    """Released names of the vision encoder -> shapes."""
    width, patch = vision.hidden_size, vision.patch_size
    lengths = {"width": width, "ffn": vision.intermediate_size}
    shapes: dict[str, Shape] = {
        "vpm.embeddings.patch_embedding.weight": (width, vision.num_channels, patch, patch),
        "vpm.embeddings.patch_embedding.bias": (width,),
        "vpm.embeddings.position_embedding.weight": ((vision.image_size // patch) ** 2, width),
        "vpm.post_layernorm.weight": (width,),
        "vpm.post_layernorm.bias": (width,),
    }
    for layer in range(vision.num_hidden_layers):
        for released, _, rows, columns in BLOCK_LAYERS:
            prefix = f"vpm.encoder.layers.{layer}.{released}"
            shapes[f"{prefix}.weight"] = (lengths[rows], lengths[columns]) if columns else (lengths[rows],)
            shapes[f"{prefix}.bias"] = (lengths[rows],)
    return shapes


def resampler_shapes(config: MiniCPMVConfig, vision: MiniCPMVVisionConfig) -> dict[str, Shape]:
    """Released names of the resampler -> shapes."""
    width = config.hidden_size
    shapes: dict[str, Shape] = {
        "resampler.query": (config.query_num, width),
        "resampler.proj": (width, width),
        "resampler.kv_proj.weight": (width, vision.hidden_size),
        "resampler.attn.in_proj_weight": (3 * width, width),
        "resampler.attn.in_proj_bias": (3 * width,),
        "resampler.attn.out_proj.weight": (width, width),
        "resampler.attn.out_proj.bias": (width,),
    }
    for norm in ("ln_q", "ln_kv", "ln_post"):
        shapes |= {f"resampler.{norm}.weight": (width,), f"resampler.{norm}.bias": (width,)}
    return shapes
