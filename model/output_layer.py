"""The output layer, which can give the losses of tokens without holding the logits of all of them.

At 128,256 words the logits of 4,096 tokens are 2 GB in float32, their softmax and its gradient as much again. The
chunked loss of torch computes them for some rows at a time, and again in the backward pass. It is computed inside the
layer, because FSDP and ZeRO-3 gather sharded weights when a layer is called.
"""

import torch
from torch import nn

from model.processing import NO_LOSS

LOGITS_AT_ONCE = 2**26  # 256 MiB in float32, 512 rows at full size: enough for a matrix product at full speed
ROWS = 128  # chunks are multiples of it


class OutputLayer(nn.Linear):
    """A linear layer without bias, D -> V."""

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__(hidden_size, vocab_size, bias=False)

    def forward(self, hidden: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """hidden [..., D] -> logits [..., V]; hidden [N, D] and targets [N] -> the cross-entropy of each target [N].

        Losses are float32; with hidden states in bfloat16 each of them is rounded to bfloat16, their gradients are not.
        """
        if targets is None:
            return super().forward(hidden)
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight.dtype
        rows = max(ROWS, LOGITS_AT_ONCE // self.out_features // ROWS * ROWS)
        losses = nn.functional.linear_cross_entropy(
            hidden.to(dtype),
            self.weight.to(dtype),
            targets,
            reduction="none",
            options=nn.LinearCrossEntropyOptions(batch_chunk_size=rows),
        )
        return losses.float()


def mean_loss(
    layer: nn.Module,
    hidden: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None = None,
    count: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """The weighted sum of next-token losses, divided by `count`.

    Args:
        layer: an `OutputLayer`, or what wraps one.
        hidden: [B, T, D].
        labels: [B, T], NO_LOSS where there is none.
        weights: [B, T], of the labels; without them each counts the same.
        count: default the sum of weights of these labels.
    """
    next_labels = labels[:, 1:]
    labeled = next_labels != NO_LOSS
    losses = layer(hidden[:, :-1][labeled], next_labels[labeled])  # [N]
    of_losses = torch.ones_like(losses) if weights is None else weights[:, 1:][labeled]
    total: torch.Tensor = (losses * of_losses).sum() / (of_losses.sum() if count is None else count)
    return total
