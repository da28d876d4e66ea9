"""Perceiver resampler: one cross-attention from learned queries to the patches of a slice (paper section 3.1).

Keys carry an absolute 2-D sin-cos position embedding, values and queries none. Positions are computed in each forward
instead of being stored in a buffer: they are exact for grids of any size, and the checkpoint does not contain them.
"""

import torch
from torch import nn

HEAD_WIDTH = 128
LAYER_NORM_EPS = 1e-6


def sincos_positions(tgt_sizes: torch.Tensor, length: int, width: int) -> torch.Tensor:
    """Position embeddings of row-major patches: grids tgt_sizes [S, 2] (rows, columns) -> [S, P, D], float32.

    Each is [sin column | cos column | sin row | cos row], a quarter of the width each, with the frequencies
    10000^(-i / (width / 4)). P is `length`, D is `width`.
    """
    index = torch.arange(length, device=tgt_sizes.device)  # [P]
    columns = tgt_sizes[:, 1:].clamp(min=1)  # [S, 1]
    frequencies = 10000.0 ** (-torch.arange(width // 4, device=tgt_sizes.device, dtype=torch.float32) / (width // 4))
    column = (index % columns).unsqueeze(-1) * frequencies  # [S, P, D / 4]
    row = (index // columns).unsqueeze(-1) * frequencies  # [S, P, D / 4]
    return torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], dim=-1)


class Resampler(nn.Module):
    """x [S, P, D_vision], tgt_sizes [S, 2] and mask [S, P] (True: a patch, False: padding) -> [S, Q, D]."""

    def __init__(self, num_queries: int, width: int, vision_width: int):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(num_queries, width))
        self.kv_proj = nn.Linear(vision_width, width, bias=False)
        self.attn = nn.MultiheadAttention(width, max(width // HEAD_WIDTH, 1))
        self.ln_q = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.ln_kv = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.ln_post = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.proj = nn.Parameter(torch.empty(width, width))

    def forward(self, x: torch.Tensor, tgt_sizes: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        value = self.ln_kv(self.kv_proj(x))  # [S, P, D]
        key = value + sincos_positions(tgt_sizes, x.shape[1], value.shape[-1]).to(value.dtype)
        query = self.ln_q(self.query).unsqueeze(1).expand(-1, x.shape[0], -1)  # [Q, S, D]
        pooled, _ = self.attn(
            query, key.transpose(0, 1), value.transpose(0, 1), key_padding_mask=~mask, need_weights=False
        )  # [Q, S, D]
        features: torch.Tensor = self.ln_post(pooled.transpose(0, 1)) @ self.proj
        return features  # [S, Q, D]
