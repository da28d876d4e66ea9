"""Answers to one prompt folded behind it, `[prompt | answer | answer | ...]`, so that the prompt is computed once.

With images a prompt is most of a sequence, and DPO has two answers to it, or four where a batch has two pairs of it.
All prompts of a batch form one row without padding. An answer attends to its prompt and to itself, and its position ids
continue from the prompt, so every token has the hidden state that it has in a sequence of its own. The states of the
answers are then gathered into sequences, so that the code of the loss stays the same.

The mask is never materialized: attention runs once for each prompt and once for each answer, with the causal kernels of
scaled_dot_product_attention, so that no product of two answers is computed.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

Folds = Sequence[Sequence[int]]  # for each prompt of a row: the number of its tokens, and that of each of its answers


def spans(folds: Folds) -> Iterator[list[tuple[int, int]]]:
    """The (start, end) in the row of each prompt and of its answers."""
    start = 0
    for lengths in folds:
        ends = list(accumulate(lengths, initial=start))
        yield list(pairwise(ends))
        start = ends[-1]


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
    device = query.device.type
    if torch.is_autocast_enabled(device):  # as the function itself does, but CausalBias looks at the types before
        dtype = torch.get_autocast_dtype(device)
        query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    outputs = []
    for (start, end), *answers in spans(folds):
        prompt_key, prompt_value = key[:, :, start:end], value[:, :, start:end]
        outputs.append(
            scaled_dot_product_attention(query[:, :, start:end], prompt_key, prompt_value, is_causal=True, **settings)
        )
        for first, last in answers:
            keys = torch.cat([prompt_key, key[:, :, first:last]], dim=2)
            values = torch.cat([prompt_value, value[:, :, first:last]], dim=2)
            causal: Any = causal_lower_right(last - first, keys.shape[2])
            outputs.append(
                scaled_dot_product_attention(query[:, :, first:last], keys, values, attn_mask=causal, **settings)
            )
    return torch.cat(outputs, dim=2)


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
