"""Two answers to one prompt folded into one row, `[prompt | chosen | rejected]`, so that the prompt is computed once.

The two sequences of a pair share their prompt, and with images the prompt is most of them. In a folded row the rejected
answer does not attend to the chosen one, and its position ids continue from the prompt, so every token has the hidden
state that it has in a sequence of its own. The states are then unfolded into the two sequences, so that the code of the
loss stays the same. The mask is dense: sdpa and flex attention support it, FlashAttention does not.
"""

from dataclasses import dataclass

import torch

PROMPT, CHOSEN, REJECTED, PADDING = range(4)


@dataclass(frozen=True)
class Folded:
    """B rows of F tokens, and for each token of the 2B sequences its index in the row.

    input_ids, position_ids [B, F]; attention_mask [B, 1, F, F], True where the token of a row attends to that of a
    column; indices [2B, T], any value for padding.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor
    indices: torch.Tensor

    def unfold(self, hidden: torch.Tensor) -> torch.Tensor:
        """[B, F, D] -> [2B, T, D]."""
        rows = torch.arange(len(hidden), device=hidden.device).repeat(2)  # [2B]
        return hidden[rows.unsqueeze(1), self.indices]


def fold(input_ids: torch.Tensor, attention_mask: torch.Tensor, prefix_lengths: torch.Tensor) -> Folded:
    """Sequences [2B, T], padded on the right -> B rows; sequences r and B + r share their first prefix_lengths[r]
    tokens.
    """
    rows, length = len(prefix_lengths), input_ids.shape[1]
    chosen, rejected = attention_mask.sum(1).view(2, rows, 1)  # [B, 1] each, lengths with the prompt
    prefix = prefix_lengths.view(rows, 1)
    ends = torch.cat([prefix, chosen, chosen + rejected - prefix], dim=1)  # [B, 3] of prompt, chosen, rejected
    index = torch.arange(int(ends[:, 2].max()), device=input_ids.device).expand(rows, -1)  # [B, F]
    part = (index.unsqueeze(-1) >= ends.unsqueeze(1)).sum(-1)  # [B, F]: PROMPT, CHOSEN, REJECTED or PADDING
    positions = torch.where(part == REJECTED, index - chosen + prefix, index).where(part != PADDING, 0)  # [B, F]
    chosen_ids, rejected_ids = (
        sequences.gather(1, positions.clamp(max=length - 1)) for sequences in input_ids.chunk(2)
    )  # [B, F] each
    ids = torch.where(part == REJECTED, rejected_ids, chosen_ids)
    causal = index.unsqueeze(-1) >= index.unsqueeze(1)  # [B, F, F]
    visible = (part.unsqueeze(1) == PROMPT) | (part.unsqueeze(1) == part.unsqueeze(-1))
    not_padding = part.unsqueeze(1) != PADDING
    diagonal = torch.eye(index.shape[1], dtype=torch.bool, device=index.device)  # a row of the mask must not be empty
    mask = (causal & visible & not_padding) | diagonal
    chosen_indices = torch.arange(length, device=input_ids.device).expand(rows, -1)  # [B, T]
    rejected_indices = torch.where(chosen_indices >= prefix, chosen_indices + chosen - prefix, chosen_indices)
    indices = torch.cat([chosen_indices, rejected_indices]).clamp(max=index.shape[1] - 1)
    return Folded(ids, positions, mask.unsqueeze(1), indices)
