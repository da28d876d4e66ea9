"""What llama.cpp computes from an mmproj file for MiniCPM-V 2.5 and 2.6, written again with torch in float64.

From tools/mtmd/clip.cpp and tools/mtmd/models/minicpmv.cpp of the llama.cpp in llama-cpp-python 0.3.36. Its roundings
to float16 are left out, so what differs from the model is the file.
"""

from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import gelu, layer_norm

Tensors = dict[str, torch.Tensor]
HEAD_WIDTH = 128  # of the resampler, fixed
TABLE_SIDE = 70


def read_gguf(file: Path) -> tuple[dict[str, Any], Tensors]:
    """Metadata and tensors in float64 of a file of float16 and float32."""
    import gguf

    reader = gguf.GGUFReader(file)
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()).double() for tensor in reader.tensors}
    return {name: field.contents() for name, field in reader.fields.items()}, tensors


def encode(file: Path, strip: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Patches of a slice side by side [3, side, P * side] -> features [Q, D of the file]."""
    metadata, tensors = read_gguf(file)
    eps: float = metadata["clip.vision.attention.layer_norm_epsilon"]
    heads: int = metadata["clip.vision.attention.head_count"]
    side: int = metadata["clip.vision.patch_size"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    row, column = torch.arange(rows * columns) // columns, torch.arange(rows * columns) % columns
    pixels = strip.double().unflatten(2, (-1, side)).permute(2, 0, 1, 3).flatten(1)  # [P, 3 * side * side]
    patches = pixels @ tensors["v.patch_embd.weight"].flatten(1).T + tensors["v.patch_embd.bias"]
    x = (
        patches
        + tensors["v.position_embd.weight"][row * TABLE_SIDE // rows * TABLE_SIDE + column * TABLE_SIDE // columns]
    )
    for layer in range(metadata["clip.vision.block_count"]):
        block = f"v.blk.{layer}"
        y = norm(x, f"{block}.ln1")
        q, k, v = (linear(y, f"{block}.attn_{name}") for name in "qkv")
        x = x + linear(attend(q, k, v, heads), f"{block}.attn_out")
        y = gelu(linear(norm(x, f"{block}.ln2"), f"{block}.ffn_down"), approximate="tanh")
        x = x + linear(y, f"{block}.ffn_up")
    x = norm(x, "v.post_ln")
    value = norm(x @ tensors["resampler.kv.weight"].T, "resampler.ln_kv")
    width = value.shape[1]
    omega = 10000.0 ** (-torch.arange(width // 4).double() / (width // 4))
    angles = [position.double().unsqueeze(1) * omega for position in (column, row)]
    key = value + torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    query = norm(tensors["resampler.query"], "resampler.ln_q")
    q, k, v = (linear(x, f"resampler.attn.{name}") for name, x in (("q", query), ("k", key), ("v", value)))
    pooled = attend(q, k, v, width // HEAD_WIDTH)
    return norm(linear(pooled, "resampler.attn.out"), "resampler.ln_post") @ tensors["resampler.proj.weight"].T


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    """[Q, D], [P, D], [P, D] -> [Q, D]."""
    q, k, v = (x.unflatten(1, (heads, -1)).transpose(0, 1) for x in (query, key, value))  # [heads, ., head width]
    weights = (q @ k.transpose(1, 2) / float(q.shape[2]) ** 0.5).softmax(-1)
    pooled: torch.Tensor = (weights @ v).transpose(0, 1).flatten(1)
    return pooled
