"""Two answers to one prompt in one row, `[prompt | chosen | rejected]`: the prompt is computed once.

A pair is two sequences that begin alike, and with images the beginning is most of them. Folded, the second answer does
not see the first, and its positions go on from the prompt; so every token has the hidden state it would have alone.
Afterwards the states are laid out as the two sequences again, so that whatever computes a loss sees no difference.
The mask is a full one: sdpa and flex attention take it, FlashAttention does not.
"""

from dataclasses import dataclass

import torch

PROMPT, CHOSEN, REJECTED, PADDING = range(4)


@dataclass(frozen=True)
class Folded:
    """B rows of F tokens, and where the states of the 2B sequences stand in them.

    input_ids, position_ids [B, F]; attention_mask [B, 1, F, F], true where the token of a row sees that of a column;
    places [2B, T]: for padding, any.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor
    places: torch.Tensor

    def unfold(self, hidden: torch.Tensor) -> torch.Tensor:
        """[B, F, D] -> [2B, T, D]."""
        rows = torch.arange(len(hidden), device=hidden.device).repeat(2)
        return hidden[rows.unsqueeze(1), self.places]


def fold(input_ids: torch.Tensor, attention_mask: torch.Tensor, prefix_lengths: torch.Tensor) -> Folded:
    """Sequences [2B, T], padded on the right, of which r and B + r begin with the same prefix_lengths[r] tokens."""
    rows, length = len(prefix_lengths), input_ids.shape[1]
    chosen, rejected = attention_mask.sum(1).view(2, rows, 1)  # [B, 1] each, tokens
    prefix = prefix_lengths.view(rows, 1)
    ends = torch.cat([prefix, chosen, chosen + rejected - prefix], dim=1)  # [B, 3] of prompt, chosen, rejected
    at = torch.arange(int(ends[:, 2].max()), device=input_ids.device).expand(rows, -1)  # [B, F]
    part = (at.unsqueeze(-1) >= ends.unsqueeze(1)).sum(-1)  # [B, F]: PROMPT, CHOSEN, REJECTED or PADDING
    positions = torch.where(part == REJECTED, at - chosen + prefix, at).where(part != PADDING, 0)
    one, other = (sequences.gather(1, positions.clamp(max=length - 1)) for sequences in input_ids.chunk(2))
    ids = torch.where(part == REJECTED, other, one)
    causal = at.unsqueeze(-1) >= at.unsqueeze(1)
    seen = (part.unsqueeze(1) == PROMPT) | (part.unsqueeze(1) == part.unsqueeze(-1))
    real = part.unsqueeze(1) != PADDING
    itself = torch.eye(at.shape[1], dtype=torch.bool, device=at.device)  # a row of the mask must not be empty
    mask = (causal & seen & real) | itself
    own = torch.arange(length, device=input_ids.device).expand(rows, -1)  # [B, T]
    moved = torch.where(own >= prefix, own + chosen - prefix, own)
    places = torch.cat([own, moved]).clamp(max=at.shape[1] - 1)
    return Folded(ids, positions, mask.unsqueeze(1), places)
