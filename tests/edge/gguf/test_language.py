"""The language model as GGUF: the order of rows, and padding that changes no output."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from edge.gguf.file import Tensor
from edge.gguf.language import Widths, language_metadata, language_tensors, pad, permute_rows, whole_blocks
from edge.gguf.weights import Weights
from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration
from rlaif.errors import ModelError
from tests.support.edge.shaped_weights import shaped_language
from tests.support.tiny import save_tiny_model

EMBEDDED = Widths(width=256, ffn=512, heads=4, kv_heads=4, head_width=64, vocabulary=1303)
NARROW = Widths(width=192, ffn=512, heads=3, kv_heads=3, head_width=64, vocabulary=547)
RELEASED = Widths(width=4096, ffn=14336, heads=32, kv_heads=8, head_width=128, vocabulary=128256)


def test_rows_of_halves_become_neighbours() -> None:
    weight = torch.arange(8.0).unsqueeze(1)  # two heads of 4
    assert permute_rows(weight, head_width=4).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert permute_rows(torch.arange(4.0), head_width=4).tolist() == [0, 2, 1, 3]  # a bias


def test_rotating_neighbours_is_rotating_halves() -> None:
    """The reason for the order: q and k turned by llama.cpp give the scores that transformers computes."""
    torch.manual_seed(0)
    q, k, x, y = torch.randn(8, 5), torch.randn(8, 5), torch.randn(5), torch.randn(5)
    angles = torch.rand(4)

    def by_halves(vector: torch.Tensor, position: int) -> torch.Tensor:
        a, b = vector.chunk(2)
        cos, sin = (position * angles).cos(), (position * angles).sin()
        return torch.cat([a * cos - b * sin, b * cos + a * sin])

    def by_neighbours(vector: torch.Tensor, position: int) -> torch.Tensor:
        a, b = vector[0::2], vector[1::2]
        cos, sin = (position * angles).cos(), (position * angles).sin()
        return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=1).flatten()

    expected = by_halves(q @ x, 3) @ by_halves(k @ y, 1)
    given = by_neighbours(permute_rows(q, 8) @ x, 3) @ by_neighbours(permute_rows(k, 8) @ y, 1)
    assert torch.allclose(given, expected, atol=1e-5)
    assert not torch.allclose(by_neighbours(q @ x, 3) @ by_neighbours(k @ y, 1), expected, atol=1e-2)


def test_pad_adds_zeros_at_the_end() -> None:
    assert pad(torch.ones(1, 2), (2, 3)).tolist() == [[1, 1, 0], [0, 0, 0]]
    assert pad(torch.ones(2), (3,)).tolist() == [1, 1, 0]


@pytest.mark.parametrize(("length", "padded"), [(1, 256), (192, 256), (256, 256), (257, 512), (14336, 14336)])
def test_whole_blocks(length: int, padded: int) -> None:
    assert whole_blocks(length) == padded


def test_widths_that_fit_stay() -> None:
    assert RELEASED.padded("llama") == RELEASED and EMBEDDED.padded("llama") == EMBEDDED
    released_2_6 = Widths(3584, 18944, 28, 4, 128, 151700)
    assert released_2_6.padded("qwen2") == released_2_6


def test_widths_that_do_not_fit_are_padded_by_whole_heads() -> None:
    assert NARROW.padded("llama") == Widths(256, 512, 4, 4, 64, 547)
    shared = Widths(384, 300, 6, 2, 64, 10)  # three heads a key: 4 keys are the first whose 12 heads fill blocks
    assert shared.padded("llama") == Widths(512, 512, 12, 4, 64, 10)


def test_heads_that_cannot_be_padded_are_refused() -> None:
    with pytest.raises(ModelError, match=r"6 heads of 64 and the width 384.*multiples of 256"):
        Widths(384, 300, 6, 2, 64, 10).padded("qwen2")


def load_padded(tensors: list[Tensor], metadata: dict[str, Any], architecture: str) -> Any:
    """transformers' model from what the file has: the other direction, written apart."""
    kind, config_kind = {
        "llama": (LlamaForCausalLM, LlamaConfig),
        "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    }[architecture]
    values: dict[str, Any] = {
        key.removeprefix(f"{architecture}."): value for key, value in metadata.items() if key.startswith(architecture)
    }
    heads, kv_heads = values["attention.head_count"], values["attention.head_count_kv"]
    head_width = values["attention.key_length"]
    config: Any = config_kind(
        hidden_size=values["embedding_length"],
        intermediate_size=values["feed_forward_length"],
        num_hidden_layers=values["block_count"],
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_width,
        vocab_size=values["vocab_size"],
        rms_norm_eps=values["attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": values["rope.freq_base"]},
        max_position_embeddings=values["context_length"],
        tie_word_embeddings=False,
    )
    names = {
        "token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head",
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    state = {}
    for tensor in tensors:
        *prefix, name, kind_of_tensor = tensor.name.split(".")
        value = tensor.read().double()
        if architecture == "llama" and name in ("attn_q", "attn_k"):  # neighbours back to halves
            value = value.unflatten(0, (-1, head_width // 2, 2)).transpose(1, 2).flatten(0, 2)
        layer = f"layers.{prefix[1]}." if prefix else ""
        state[f"{layer}{names[name]}.{kind_of_tensor}"] = value
    model = kind(config).double().eval()
    model.lm_head.load_state_dict({"weight": state.pop("lm_head.weight")})
    model.model.load_state_dict(state)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("version", "width"), [("2.5", 128), ("2.6", 128), ("2.5", 192)])
def test_padding_changes_no_output(version: str, width: int, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_tiny_model(folder, version=version, width=width)
    model: Any = MiniCPMVForConditionalGeneration.from_pretrained(folder, dtype=torch.float64).eval()
    config = model.config
    weights = Weights.open(folder)
    tensors, metadata = language_tensors(weights, config), language_metadata(config, "x")
    architecture = "qwen2" if version == "2.6" else "llama"
    assert metadata[f"{architecture}.embedding_length"] == 256 != config.hidden_size
    padded = load_padded(tensors, metadata, architecture)
    ids = torch.arange(40).unsqueeze(0) * 7 % config.vocab_size
    with torch.no_grad():
        expected = model.lm_head(model.model.language_model(input_ids=ids).last_hidden_state)
        assert torch.allclose(padded(input_ids=ids).logits, expected, rtol=1e-5, atol=1e-4)  # norms are float32
        padded.model.norm.weight *= (256 / config.hidden_size) ** 0.5  # as if it had not been rescaled
        assert not torch.allclose(padded(input_ids=ids).logits, expected, rtol=1e-2, atol=1e-2)


def test_released_sizes_have_every_parameter() -> None:
    """8,030,261,248 is the size of Llama 3 8B, as published."""
    config = MiniCPMVConfig()
    tensors = language_tensors(shaped_language(config), config)
    assert len(tensors) == 291
    assert sum(torch.Size(tensor.shape).numel() for tensor in tensors) == 8_030_261_248
    metadata = language_metadata(config, "x")
    assert metadata["llama.attention.layer_norm_rms_epsilon"] == 1e-5 and metadata["rlaif.embedding_width"] == 4096


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    config = MiniCPMVConfig.from_pretrained(tmp_path / "model")
    config.intermediate_size = 64
    with (
        Weights.open(tmp_path / "model") as weights,
        pytest.raises(ModelError, match=r"gate_proj.weight \[128, 128\] instead of \[64, 128\].* and 3 more"),
    ):
        language_tensors(weights, config)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"model.safetensors is damaged or cut short .*copy it again"):
        Weights.open(tmp_path / "model")
    file.unlink()
    with pytest.raises(ModelError, match=r"has no \*.safetensors"):
        Weights.open(tmp_path / "model")
