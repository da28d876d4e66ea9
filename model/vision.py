"""SigLIP vision encoder over slices of any shape, with masked padding.

Notable choices:
- position ids are computed in integers: in bf16 about 4% of them would be wrong;
- they are computed per slice, so that the features of a slice do not depend on the rest of the batch;
- no CLS token, no pooling; all layers are used;
- the transformer layers are those of transformers' SigLIP.

The position table [table_side * table_side, D] is a flattened square. In shapes, `side` is that of a patch in pixels.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from model.configuration import MiniCPMVVisionConfig
from model.transformers_private import SiglipEncoder, create_bidirectional_mask


def patch_mask(tgt_sizes: torch.Tensor, length: int) -> torch.Tensor:
    """tgt_sizes [S, 2], (rows, columns) in patches -> [S, P] bool with P = length, True: a patch, False: padding."""
    return torch.arange(length, device=tgt_sizes.device) < tgt_sizes.prod(dim=1, keepdim=True)


def bucket_1d(tgt_sizes: torch.Tensor, length: int, table_side: int) -> torch.Tensor:
    """Position ids [S, P] of the released 2.5: patch k of n gets the id k * table_side // n, in the first row of the
    table; padding gets 0.
    """
    index = torch.arange(length, device=tgt_sizes.device)  # [P]
    ids = index * table_side // tgt_sizes.prod(dim=1, keepdim=True).clamp(min=1)
    return torch.where(patch_mask(tgt_sizes, length), ids, 0)


def bucket_2d(tgt_sizes: torch.Tensor, length: int, table_side: int) -> torch.Tensor:
    """Position ids [S, P] of the released 2.6: the patch in row i of h and column j of w gets the id of row
    i * table_side // h and column j * table_side // w of the table; padding gets 0.
    """
    index = torch.arange(length, device=tgt_sizes.device)  # [P]
    rows, columns = tgt_sizes.clamp(min=1).split(1, dim=1)  # [S, 1] each
    ids = (index // columns * table_side // rows) * table_side + index % columns * table_side // columns
    return torch.where(patch_mask(tgt_sizes, length), ids, 0)


def interpolated(table: torch.Tensor, tgt_sizes: torch.Tensor, length: int, table_side: int) -> torch.Tensor:
    """Position embeddings [S, P, D] of the paper (section 3.2) and of 2.0: the table as a square is interpolated
    (bicubic, in float32) to the grid of each slice; padding gets zeros.
    """
    square = table.float().T.reshape(1, -1, table_side, table_side)  # [1, D, table_side, table_side]
    grids: list[tuple[int, int]] = [(rows, columns) for rows, columns in tgt_sizes.tolist()]
    tables = {
        grid: nn.functional.interpolate(square, size=grid, mode="bicubic")[0].flatten(1).T  # [rows * columns, D]
        for grid in set(grids)
    }
    padded = [nn.functional.pad(tables[grid], (0, 0, 0, length - grid[0] * grid[1])) for grid in grids]
    return torch.stack(padded).to(table.dtype)  # [S, P, D]


def positions(table: torch.Tensor, kind: str, tgt_sizes: torch.Tensor, length: int, table_side: int) -> torch.Tensor:
    """Position embeddings [S, P, D] of slices tgt_sizes [S, 2] from the table; `kind` is one of
    `model.configuration.POSITIONS`.
    """
    if kind == "interpolate":
        return interpolated(table, tgt_sizes, length, table_side)
    ids = {"bucket_1d": bucket_1d, "bucket_2d": bucket_2d}[kind](tgt_sizes, length, table_side)
    return nn.functional.embedding(ids, table)  # [S, P, D]


class VisionEmbeddings(nn.Module):
    """Patch embeddings plus position embeddings."""

    def __init__(self, config: MiniCPMVVisionConfig):
        super().__init__()
        self.kind = config.position_embedding_type
        self.table_side = config.image_size // config.patch_size
        self.patch_embedding = nn.Conv2d(
            config.num_channels, config.hidden_size, config.patch_size, stride=config.patch_size
        )
        self.position_embedding = nn.Embedding(self.table_side**2, config.hidden_size)

    def forward(self, pixel_values: torch.Tensor, tgt_sizes: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))  # [S, D, 1, P]
        patches = patches.flatten(2).transpose(1, 2)  # [S, P, D]
        table = self.position_embedding.weight
        embedded: torch.Tensor = patches + positions(table, self.kind, tgt_sizes, patches.shape[1], self.table_side)
        return embedded


class VisionModel(PreTrainedModel):
    """pixel_values [S, 3, side, P * side], patches in row-major order, padded to the longest slice, and
    tgt_sizes [S, 2] -> [S, P, D].
    """

    config_class = MiniCPMVVisionConfig
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _no_split_modules = ["SiglipEncoderLayer"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: MiniCPMVVisionConfig):
        super().__init__(config)
        self.embeddings = VisionEmbeddings(config)
        self.encoder = SiglipEncoder(config)  # type: ignore[arg-type]  # of the same shape
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def forward(self, pixel_values: torch.Tensor, tgt_sizes: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.embeddings(pixel_values, tgt_sizes)
        mask = create_bidirectional_mask(self.config, hidden, patch_mask(tgt_sizes, hidden.shape[1]))
        hidden = self.encoder(hidden, attention_mask=mask).last_hidden_state
        hidden = self.post_layernorm(hidden)
        return hidden  # [S, P, D]
