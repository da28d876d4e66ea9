"""SigLIP vision encoder over slices of any shape: each gets its own share of the position table, padding is masked.

Notable choices: position ids are integer arithmetic (a float cast loses about 4% of them in bf16), computed per slice,
so that what a slice yields does not depend on what else is in the batch; no CLS token, no pooling; all layers are used.
The transformer layers are transformers' SigLIP ones.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from model.configuration import MiniCPMVVisionConfig
from model.transformers_private import SiglipEncoder, create_bidirectional_mask


def patch_mask(tgt_sizes: torch.Tensor, length: int) -> torch.Tensor:
    """[N, length] bool: True where a position holds a patch of its slice. `tgt_sizes` [N, 2] holds (height, width) in
    patches.
    """
    return torch.arange(length, device=tgt_sizes.device) < tgt_sizes.prod(dim=1, keepdim=True)


def bucket_1d(tgt_sizes: torch.Tensor, length: int, side: int) -> torch.Tensor:
    """Position ids [N, length] of the released 2.5: patch k of L gets id k * side // L, in the first row of the
    table; 0 where there is no patch.
    """
    index = torch.arange(length, device=tgt_sizes.device)
    ids = index * side // tgt_sizes.prod(dim=1, keepdim=True).clamp(min=1)
    return torch.where(patch_mask(tgt_sizes, length), ids, 0)


def bucket_2d(tgt_sizes: torch.Tensor, length: int, side: int) -> torch.Tensor:
    """Position ids [N, length] of the released 2.6: the patch in row i of h and column j of w gets the id of row
    i * side // h and column j * side // w of the table; 0 where there is no patch.
    """
    index = torch.arange(length, device=tgt_sizes.device)
    rows, columns = tgt_sizes.clamp(min=1).split(1, dim=1)  # [N, 1] each
    ids = (index // columns * side // rows) * side + index % columns * side // columns
    return torch.where(patch_mask(tgt_sizes, length), ids, 0)


def interpolated(table: torch.Tensor, tgt_sizes: torch.Tensor, length: int, side: int) -> torch.Tensor:
    """Positions [N, length, D] of the paper's text (section 3.2) and of 2.0: the table [side * side, D] back in two
    dimensions, interpolated (bicubic, in float32) to each slice's grid; zeros where there is no patch.
    """
    square = table.float().T.reshape(1, -1, side, side)  # [1, D, side, side]
    grids: list[tuple[int, int]] = [(rows, columns) for rows, columns in tgt_sizes.tolist()]
    fitted = {
        grid: nn.functional.interpolate(square, size=grid, mode="bicubic")[0].flatten(1).T  # [L, D]
        for grid in set(grids)
    }
    out = torch.stack([nn.functional.pad(fitted[grid], (0, 0, 0, length - grid[0] * grid[1])) for grid in grids])
    return out.to(table.dtype)


def positions(table: torch.Tensor, kind: str, tgt_sizes: torch.Tensor, length: int, side: int) -> torch.Tensor:
    """What is added to the patches of slices tgt_sizes [N, 2]: [N, length, D] from the table [side * side, D], by one
    of `model.configuration.POSITIONS`.
    """
    if kind == "interpolate":
        return interpolated(table, tgt_sizes, length, side)
    ids = {"bucket_1d": bucket_1d, "bucket_2d": bucket_2d}[kind](tgt_sizes, length, side)
    return nn.functional.embedding(ids, table)


class VisionEmbeddings(nn.Module):
    def __init__(self, config: MiniCPMVVisionConfig):
        super().__init__()
        self.kind = config.position_embedding_type
        self.side = config.image_size // config.patch_size
        self.patch_embedding = nn.Conv2d(
            config.num_channels, config.hidden_size, config.patch_size, stride=config.patch_size
        )
        self.position_embedding = nn.Embedding(self.side**2, config.hidden_size)

    def forward(self, pixel_values: torch.Tensor, tgt_sizes: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))  # [N, D, 1, L]
        patches = patches.flatten(2).transpose(1, 2)  # [N, L, D]
        return patches + positions(self.position_embedding.weight, self.kind, tgt_sizes, patches.shape[1], self.side)


class VisionModel(PreTrainedModel):
    """pixel_values [N, 3, P, L*P] (patches side by side, row-major, padded to the longest slice) and tgt_sizes [N, 2]
    -> [N, L, D].
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
        hidden = self.embeddings(pixel_values, tgt_sizes)
        mask = create_bidirectional_mask(self.config, hidden, patch_mask(tgt_sizes, hidden.shape[1]))
        hidden = self.encoder(hidden, attention_mask=mask).last_hidden_state
        return self.post_layernorm(hidden)  # [N, L, D]
