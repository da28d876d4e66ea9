"""Answers to one prompt folded behind it, `[prompt | answer | answer | ...]`, so that the prompt is computed once.

With images a prompt is most of a sequence, and DPO has two answers to it, or four where a batch has two pairs of it.
All prompts of a batch form one row without padding. An answer attends to its prompt and to itself, and its position ids
continue from the prompt, so every token has the hidden state that it has in a sequence of its own. The states of the
answers are then gathered into sequences, so that the code of the loss stays the same.

The mask of the row is never materialized: attention runs once for each prompt, with the causal kernel, and once for
each answer, which sees its prompt and a triangle of its own, so that no product of two answers is computed; or, where
the attention of the model is FLEX, FlexAttention computes the blocks that are not empty. Packed training has the same
rows, with samples for prompts.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from model.transformers_private import flex_attention_forward

FLEX = "folded_flex_attention"  # as attn_implementation of a model
Folds = Sequence[Sequence[int]]  # for each prompt of a row: the number of its tokens, and that of each of its answers


def position_ids(folds: Folds) -> torch.Tensor:
    """[1, F]: those that each token has in a sequence of its own."""
    ids = []
    for prompt, *answers in folds:
        ids += [torch.arange(prompt), *(torch.arange(prompt, prompt + answer) for answer in answers)]
    return torch.cat(ids).unsqueeze(0)


def segment_ids(folds: Folds) -> torch.Tensor:
    """[2, F]: the number of each token's prompt, and within it 0 for the prompt or the number of the answer, from 1.

    Token q attends to k if q >= k, both have one prompt, and k is of the prompt or both are of one answer: the same
    mask as a function of indices, from which FlexAttention makes its block mask.
    """
    groups = [torch.full((sum(lengths),), group) for group, lengths in enumerate(folds)]
    parts = [torch.full((length,), part) for lengths in folds for part, length in enumerate(lengths)]
    return torch.stack([torch.cat(groups), torch.cat(parts)])


def dense_mask(folds: Folds) -> torch.Tensor:
    """[1, 1, F, F], True where the token of a row attends to that of a column; the definition of what `attend` does."""
    group, part = segment_ids(folds)
    index = torch.arange(len(group))
    visible = (group.unsqueeze(1) == group) & ((part == 0) | (part.unsqueeze(1) == part))
    mask: torch.Tensor = visible & (index.unsqueeze(1) >= index)
    return mask.view(1, 1, len(group), len(group))


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, folds: Folds, **settings: Any) -> torch.Tensor:
    """Attention of a row with `dense_mask(folds)`: query [1, H, F, D], key and value [1, H or fewer, F, D]."""
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        # torch's backward pass takes two to four times as long in bfloat16 there; without gradients too, because the
        # reference of DPO must compute what the policy does
        with torch.autocast("cpu", enabled=False):
            return attend(query.float(), key.float(), value.float(), folds, **settings)
    lengths = [length for fold in folds for length in fold]
    # split, because the gradient of each slice would be a row of zeros
    parts = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    outputs = []
    for _, *answers in folds:
        prompt_query, prompt_key, prompt_value = next(parts)
        outputs.append(scaled_dot_product_attention(prompt_query, prompt_key, prompt_value, is_causal=True, **settings))
        for answer_query, answer_key, answer_value in islice(parts, len(answers)):
            keys = torch.cat([prompt_key, answer_key], dim=2)
            values = torch.cat([prompt_value, answer_value], dim=2)
            shape = answer_query.shape[2], keys.shape[2]
            triangle = torch.ones(shape, dtype=torch.bool, device=keys.device).tril(prompt_key.shape[2])
            outputs.append(scaled_dot_product_attention(answer_query, keys, values, attn_mask=triangle, **settings))
    return torch.cat(outputs, dim=2)


def block_mask(folds: Folds, device: torch.device) -> BlockMask:
    """`dense_mask(folds)` as the blocks that FlexAttention computes."""
    group, part = segment_ids(folds).to(device)

    def visible(batch: Any, head: Any, query: Any, key: Any) -> torch.Tensor:
        seen = (part[key] == 0) | (part[query] == part[key])
        result: torch.Tensor = (query >= key) & (group[query] == group[key]) & seen
        return result

    return create_block_mask(visible, None, None, len(group), len(group), device, _compile=device.type == "cuda")


class FoldedMask(torch.Tensor):
    """Stands for `dense_mask(folds)` [1, 1, F, F], and takes no memory: passed to scaled_dot_product_attention, as
    transformers passes a mask of four dimensions, it calls `attend`. CausalBias of torch.nn.attention works the same
    way.

    Errors: TypeError where another attention uses it as an ordinary tensor.
    """

    folds: Folds

    @classmethod
    def of(cls, folds: Folds, device: torch.device) -> "FoldedMask":
        length = sum(map(sum, folds))
        mask = torch.zeros(1, dtype=torch.bool, device=device).expand(1, 1, length, length).as_subclass(cls)
        mask.folds = folds
        return mask

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is scaled_dot_product_attention:
            return cls._attend(*args, **(kwargs or {}))
        if func.__name__ == "__get__" or func is torch.is_floating_point:  # shape, device, ...
            return super().__torch_function__(func, types, args, kwargs)
        raise TypeError(f"a shared prompt needs attention 'sdpa', but another one called {func.__name__} on its mask")

    @staticmethod
    def _attend(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: "FoldedMask",
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        assert not is_causal, "the mask is causal by itself"
        return attend(query, key, value, attn_mask.folds, dropout_p=dropout_p, scale=scale, enable_gqa=enable_gqa)


def flex_attend(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **settings: Any
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """FlexAttention of transformers, which autocast does not know: rotary embeddings leave query and key in float32."""
    device = query.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    return flex_attention_forward(module, query, key, value, attention_mask, **settings)


AttentionInterface.register(FLEX, flex_attend)
