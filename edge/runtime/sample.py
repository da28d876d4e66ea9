"""A model of random weights whose greedy answer is known beforehand, to try a build and to measure its speed.

The output row of `following(t)` is the embedding of t, and the layers add little to the residual stream. So whatever
the layers compute, within bounds, the next token of t is `following(t)`: a build or quantization that computes wrongly
by a lot, or dies, does not answer that.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

STEP, OFFSET = 7, 3  # STEP has no factor in common with a vocabulary that is a power of two, or 320


@dataclass(frozen=True)
class Shape:
    """Widths are multiples of 256, which k-quants want."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int


SMALL = Shape(width=256, layers=2, heads=4, kv_heads=2, hidden=768, vocabulary=320)  # 2 million parameters
MIDDLE = Shape(width=1024, layers=6, heads=16, kv_heads=4, hidden=2816, vocabulary=4096)  # 76 million


def following(token: int, shape: Shape) -> int:
    """The token that the model answers after `token`."""
    return (STEP * token + OFFSET) % shape.vocabulary


def chain(token: int, count: int, shape: Shape) -> list[int]:
    """The greedy answer of `count` tokens to a prompt that ends with `token`."""
    ids: list[int] = []
    for _ in range(count):
        token = following(token, shape)
        ids.append(token)
    return ids


def embeddings(shape: Shape) -> "np.ndarray":
    """[V, D] float32, standard normal."""
    import numpy as np

    return np.random.default_rng(0).standard_normal((shape.vocabulary, shape.width), dtype=np.float32)


def write_sample(file: Path, shape: Shape) -> None:
    """Write the model as GGUF in f16, without a tokenizer."""
    import numpy as np
    from gguf import GGUFWriter

    rng = np.random.default_rng(1)
    table = embeddings(shape)
    output = np.empty_like(table)
    output[[following(token, shape) for token in range(shape.vocabulary)]] = table

    writer = GGUFWriter(file, "llama")
    writer.add_file_type(1)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(2048)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)

    def matrix(rows: int, columns: int) -> "np.ndarray":
        """[rows, columns] of standard deviation 0.5 / sqrt(columns): half of the input's size comes out."""
        weights: np.ndarray = rng.standard_normal((rows, columns)) * (0.5 / columns**0.5)
        return weights.astype(np.float16)

    ones = np.ones(shape.width, np.float32)
    kv_width = shape.width // shape.heads * shape.kv_heads
    writer.add_tensor("token_embd.weight", table.astype(np.float16))
    writer.add_tensor("output.weight", output.astype(np.float16))
    writer.add_tensor("output_norm.weight", ones)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", ones)
        writer.add_tensor(f"{block}.attn_q.weight", matrix(shape.width, shape.width))
        writer.add_tensor(f"{block}.attn_k.weight", matrix(kv_width, shape.width))
        writer.add_tensor(f"{block}.attn_v.weight", matrix(kv_width, shape.width))
        writer.add_tensor(f"{block}.attn_output.weight", matrix(shape.width, shape.width))
        writer.add_tensor(f"{block}.ffn_norm.weight", ones)
        writer.add_tensor(f"{block}.ffn_gate.weight", matrix(shape.hidden, shape.width))
        writer.add_tensor(f"{block}.ffn_up.weight", matrix(shape.hidden, shape.width))
        writer.add_tensor(f"{block}.ffn_down.weight", matrix(shape.width, shape.hidden))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
