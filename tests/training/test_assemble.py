"""A model to begin pre-training with, from tiny random parts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from tests.support.tiny import noise_image, tiny_tokenizer
from training.assemble import main

SIZES: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 256,
}  # fmt: skip


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, str]:
    """Folders of a Llama, a Qwen2 and a SigLIP encoder with a table of 4 x 4 positions."""
    tokenizer = tiny_tokenizer("2.5")
    torch.manual_seed(0)
    vocabulary = len(tokenizer)
    rope: Any = {"rope_type": "default", "rope_theta": 5e5}
    llama = LlamaConfig(vocab_size=vocabulary, rope_parameters=rope, **SIZES)
    LlamaForCausalLM(llama).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    Qwen2ForCausalLM(Qwen2Config(vocab_size=vocabulary, **SIZES)).save_pretrained(tmp_path / "qwen2")
    tokenizer.save_pretrained(tmp_path / "qwen2")
    vision = SiglipVisionConfig(
        hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=1, image_size=56, patch_size=14
    )
    SiglipVisionModel(vision).save_pretrained(tmp_path / "siglip")
    return {name: str(tmp_path / name) for name in ("llama", "qwen2", "siglip")}


@pytest.mark.parametrize(("llm", "version", "queries"), [("llama", "2.5", "4"), ("qwen2", "2.6", "2")])
def test_the_parts_keep_their_weights_and_a_picture_goes_through(
    llm: str, version: str, queries: str, parts: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "start"
    options = ["--version", version, "--queries", queries, "--scale-resolution", "56"]
    assert main(["--llm", parts[llm], "--vision", parts["siglip"], "--out", str(out), *options]) == 0
    model = MiniCPMVForConditionalGeneration.from_pretrained(out, dtype=torch.float32)
    kind = {"llama": LlamaForCausalLM, "qwen2": Qwen2ForCausalLM}[llm]
    language = kind.from_pretrained(parts[llm], dtype=torch.float32)
    ids = torch.arange(12, 20)[None]
    known = language.config.vocab_size
    assert torch.equal(model(input_ids=ids).logits[..., :known], language(input_ids=ids).logits)
    encoder = SiglipVisionModel.from_pretrained(parts["siglip"], dtype=torch.float32)
    taken = model.model.vision_model.encoder.state_dict()
    given = {name.removeprefix("vision_model."): value for name, value in encoder.state_dict().items()}
    assert all(torch.equal(value, given[f"encoder.{name}"]) for name, value in taken.items())
    table = model.model.vision_model.embeddings.position_embedding.weight
    assert table.shape == (70 * 70, 64)
    # where the old positions lie, a quarter of a step away at most
    positions = [70 * row + column for row in (8, 26, 43, 61) for column in (8, 26, 43, 61)]
    assert torch.allclose(table[positions], given["embeddings.position_embedding.weight"], atol=0.02)

    processor = MiniCPMVProcessor.from_pretrained(out)
    assert processor.image_token_id == model.config.image_token_id
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a star"}]}],
        add_generation_prompt=True,
    )
    batch = processor(images=[noise_image((112, 70))], text=prompt)
    assert torch.isfinite(model(**batch).logits).all()


def test_bad_input_is_one_line(parts: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        "version 2.6 has a Qwen2 language model": {"--llm": parts["llama"], "--version": "2.6"},
        "exists and is not overwritten; choose another folder": {"--llm": parts["llama"], "--out": str(tmp_path)},
        "nowhere": {"--llm": "./nowhere"},
    }
    for message, changes in cases.items():
        options = {"--vision": parts["siglip"], "--out": str(tmp_path / "start"), **changes}
        assert main([word for option in options.items() for word in option]) == 2
        assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "start").exists()
