"""The model whose answer is known."""

from pathlib import Path

import numpy as np
import pytest

from edge.runtime.sample import MIDDLE, SMALL, Shape, chain, embeddings, following, write_sample


def test_the_answer_is_a_chain() -> None:
    assert chain(11, 3, SMALL) == [80, 243, 104]  # 7 * 11 + 3; 7 * 80 + 3 = 563 - 320; 7 * 243 + 3 = 1704 - 5 * 320


@pytest.mark.parametrize("shape", [SMALL, MIDDLE])
def test_each_token_follows_one(shape: Shape) -> None:
    assert {following(token, shape) for token in range(shape.vocabulary)} == set(range(shape.vocabulary))
    assert shape.width % 256 == shape.hidden % 256 == 0


def test_the_output_row_of_the_next_token_is_the_embedding(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the packages of edge are missing: run `make edge-runtime`")
    write_sample(tmp_path / "model.gguf", SMALL)
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    table = embeddings(SMALL).astype(np.float16)
    assert np.array_equal(tensors["token_embd.weight"], table)
    assert np.array_equal(tensors["output.weight"][80], table[11]) and not np.array_equal(table[80], table[11])
    assert tensors["blk.1.attn_k.weight"].shape == (128, 256)
    assert "blk.2.attn_k.weight" not in tensors
