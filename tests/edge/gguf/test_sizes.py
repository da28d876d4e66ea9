"""Sizes at the release: the types that llama.cpp gives each tensor, times the released shapes."""

from math import prod
from pathlib import Path
from typing import Any

import pytest

from edge.gguf.file import read_header, write_file
from edge.gguf.language import language_metadata, language_tensors
from edge.runtime import program
from model import MiniCPMVConfig
from tests.support.edge.shaped_weights import shaped_language

VOCABULARY = 300


def narrow_release() -> MiniCPMVConfig:
    """As many layers and heads a key as the release, a sixteenth as wide."""
    return MiniCPMVConfig(hidden_size=256, intermediate_size=256, num_attention_heads=4, num_key_value_heads=1,
                          head_dim=64, vocab_size=VOCABULARY)  # fmt: skip


def released_bytes(types: dict[str, str]) -> int:
    import gguf

    sizes = {kind.name: size for kind, size in gguf.GGML_QUANT_SIZES.items()}  # type -> (weights of a block, its bytes)
    config = MiniCPMVConfig()
    total = 0
    for tensor in language_tensors(shaped_language(config), config):
        block, size = sizes[types[tensor.name]]
        assert tensor.shape[-1] % block == 0
        total += prod(tensor.shape) // block * size
    return total


@pytest.mark.slow
def test_q4_k_m_is_3_2_times_smaller_than_f16(llama_cpp: Any, tmp_path: Path) -> None:
    """The types depend on a tensor's name and layer, not on its width, so a narrow model of 32 layers has them all."""
    config = narrow_release()
    tokens: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [f"t{index}" for index in range(VOCABULARY)],
        "tokenizer.ggml.token_type": [1] * VOCABULARY, "tokenizer.ggml.merges": ["t 1"],
    }  # fmt: skip
    file = tmp_path / "f16.gguf"
    metadata = language_metadata(config, "narrow") | tokens
    write_file(file, "llama", metadata, language_tensors(shaped_language(config), config))
    sizes = {"f16": released_bytes({name: stored.type for name, stored in read_header(file).tensors.items()})}
    for quant in ("Q8_0", "Q4_K_M"):
        program.quantize(file, tmp_path / f"{quant}.gguf", quant)
        header = read_header(tmp_path / f"{quant}.gguf")
        sizes[quant] = released_bytes({name: stored.type for name, stored in header.tensors.items()})
    assert sizes["f16"] == 2 * 8_030_261_248 + 2 * 4096 * 65  # the norms, 2 a layer and the last, are float32
    assert sizes["f16"] / sizes["Q4_K_M"] == pytest.approx(3.27, abs=0.02)
    assert sizes["f16"] / sizes["Q8_0"] == pytest.approx(16 / 8.5, abs=0.01)
