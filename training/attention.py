"""The attention of packed training: how samples of one row are kept apart, chosen by what the machine can do.

    flex     FlexAttention, compiled: the blocks of the mask that are not empty, in one kernel; GPUs only
    split    scaled_dot_product_attention for one sample after the other, with its causal kernels
    dense    scaled_dot_product_attention over padded rows, with a mask of T x T

All give the same; the first two never hold such a mask, nor padding.
"""

from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel, TrainingArguments

from model import MiniCPMVForConditionalGeneration
from model.shared_prefix import FLEX, block_mask, flex_attend
from rlaif.errors import ConfigError

Attention = Literal["flex", "split", "dense"]


def choose_attention(
    wanted: Attention | None, device: torch.device, config: Any, autocast: torch.dtype | None, weights: torch.dtype
) -> tuple[Attention, str]:
    """The attention, and why, in words.

    Args:
        wanted: what the user set.
        config: of the model.
        autocast: the type that autocast computes in; None without it.

    Errors: ConfigError if FlexAttention is wanted and cannot train here.
    """
    if wanted in ("split", "dense"):
        return wanted, f"attention {wanted}, as set"
    problem = flex_problem(device, config, autocast, weights)
    if problem is None:
        return "flex", "attention flex: FlexAttention, compiled"
    if wanted == "flex":
        raise ConfigError(f"attention is flex, but {problem}; remove the key, or set split or dense")
    return "split", f"attention split, one sample after the other: {problem}"


def flex_problem(device: torch.device, config: Any, autocast: torch.dtype | None, weights: torch.dtype) -> str | None:
    """Why FlexAttention cannot train on this device, found by training one small attention; None if it can."""
    if device.type == "cpu":
        return "FlexAttention does not train on CPU"
    size, length = config.hidden_size // config.num_attention_heads, 256
    query, key, value = (
        torch.zeros(1, heads, length, size, device=device, dtype=weights, requires_grad=True)
        for heads in (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
    )
    try:
        mask = block_mask([[100, 20, 30], [106]], device)
        with torch.autocast(device.type, autocast) if autocast else nullcontext():
            output, _ = flex_attend(nn.Module(), query, key, value, mask, scaling=size**-0.5)
        output.sum().backward()
    except Exception as error:  # errors of compilers have no common class
        return f"FlexAttention does not compile here ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    return None


def set_attention(model: MiniCPMVForConditionalGeneration, attention: Attention) -> None:
    """Set that of the language model; the vision encoder keeps its own."""
    model.set_attn_implementation({"": FLEX if attention == "flex" else "sdpa"})


def set_vision_attention(vision: PreTrainedModel, args: TrainingArguments) -> None:
    """Eager attention on a CPU in bfloat16, where the backward pass of sdpa takes longer than all else together."""
    if args.bf16 and args.device.type == "cpu":
        vision.set_attn_implementation("eager")
