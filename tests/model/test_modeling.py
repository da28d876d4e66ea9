"""The model: layout, merging, batching, and the same log-probabilities as vLLM serving the saved checkpoint."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from model.resampler import sincos_positions
from model.vision import bucket_1d, bucket_2d, interpolated
from tests.support.tiny import load_model, noise_image, save_tiny_model

SIZES = [
    (56, 56),
    (30, 100),
    (112, 56),
    (120, 110),
    (300, 40),
    (57, 200),
    (41, 43),
]  # without slices, two, four; tall, wide, odd


def prompt(processor: MiniCPMVProcessor, text: str = "Describe the picture.") -> str:
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    return str(processor.apply_chat_template(messages, add_generation_prompt=True))


def test_released_size_and_names() -> None:
    with torch.device("meta"):
        model = MiniCPMVForConditionalGeneration(MiniCPMVConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_537_092_336
    assert sum(parameter.numel() for parameter in model.model.vision_model.parameters()) == 417_792_240
    assert sum(parameter.numel() for parameter in model.model.resampler.parameters()) == 89_038_848
    assert len(model.state_dict()) == 741


def test_2_6_is_a_config_of_the_same_classes() -> None:
    """The constants of the released 2.6."""
    config = MiniCPMVConfig(
        version="2.6",
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        vocab_size=151666,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
        max_position_embeddings=32768,
        query_num=64,
    )
    with torch.device("meta"):
        model = MiniCPMVForConditionalGeneration(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_099_175_152
    names = model.state_dict()
    assert "model.language_model.layers.0.self_attn.q_proj.bias" in names  # Qwen2 has biases on q, k and v
    assert "model.language_model.layers.0.self_attn.o_proj.bias" not in names


def test_saved_in_the_released_layout(tiny_model: Path) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    assert config["architectures"] == ["MiniCPMV"] and config["version"] == "2.5" and config["rope_theta"] == 500000.0
    assert config["vision_config"]["model_type"] == "idefics2"
    assert "auto_map" not in config
    with safe_open(tiny_model / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    assert {name.split(".")[0] for name in names} == {"llm", "vpm", "resampler"}
    assert {
        "llm.lm_head.weight",
        "llm.model.embed_tokens.weight",
        "vpm.post_layernorm.weight",
        "resampler.proj",
        "resampler.attn.in_proj_weight",
    } <= names
    assert not any("pos_embed" in name for name in names)


def test_round_trip_is_bit_for_bit(tiny_model: Path, tmp_path: Path) -> None:
    model, _ = load_model(tiny_model)
    model.save_pretrained(tmp_path)
    loaded = MiniCPMVForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_unknown_version_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"version '9\.9' is not supported; allowed: '2\.5', '2\.6'"):
        MiniCPMVConfig(version="9.9")


def test_unknown_positions_are_an_error() -> None:
    allowed = r"allowed: 'interpolate', 'bucket_1d', 'bucket_2d'"
    with pytest.raises(ValueError, match=f"position_embedding_type is 'rope'; {allowed}"):
        MiniCPMVConfig(vision_config={"position_embedding_type": "rope"})


def test_position_ids_of_the_released_2_5() -> None:
    # table side 70; 2 x 3 = 6 patches: ids k * 70 // 6 = 0, 11, 23, 35, 46, 58; the second slice has 2 patches:
    # 0, 35, then padding
    ids = bucket_1d(torch.tensor([[2, 3], [1, 2]]), 6, 70)
    assert ids.tolist() == [[0, 11, 23, 35, 46, 58], [0, 35, 0, 0, 0, 0]]


def test_position_ids_of_the_released_2_6() -> None:
    # table side 70; 2 x 3 patches: rows 0, 35, columns 0, 23, 46; then 1 x 2 patches and padding
    ids = bucket_2d(torch.tensor([[2, 3], [1, 2]]), 6, 70)
    assert ids.tolist() == [[0, 23, 46, 2450, 2473, 2496], [0, 35, 0, 0, 0, 0]]
    tall = bucket_2d(torch.tensor([[140, 1]]), 140, 70)  # more rows than the table has: two share one
    assert tall[0].tolist() == [row // 2 * 70 for row in range(140)]


def test_interpolated_positions() -> None:
    side = 4
    ramp = torch.stack([torch.arange(16) // side, torch.arange(16) % side], dim=1).float()  # (row, column) of each
    square, wide = interpolated(ramp, torch.tensor([[4, 4], [2, 8]]), 20, side)
    assert torch.equal(square[:16], ramp) and not square[16:].any()
    # 2 rows of 8 columns: centers of the halves lie at rows 0.5 and 2.5, columns at (k + 0.5) / 2 - 0.5
    assert torch.allclose(wide[:16, 0].reshape(2, 8)[:, 0], torch.tensor([0.5, 2.5]), atol=0.1)
    assert torch.allclose(wide[3:5, 1], torch.tensor([1.25, 1.75]), atol=0.05)


def test_resampler_positions_have_the_column_first() -> None:
    positions = sincos_positions(
        torch.tensor([[2, 2]]), 4, 8
    )  # width 8: [sin col x2 | cos col x2 | sin row x2 | cos row x2], frequencies 1 and 0.01
    first, second = torch.tensor(1.0), torch.tensor(0.01)
    expected = torch.stack([first.sin(), second.sin(), first.cos(), second.cos(), *torch.tensor([0.0, 0.0, 1.0, 1.0])])
    assert torch.allclose(positions[0, 1], expected)  # patch (row 0, column 1)
    assert torch.allclose(positions[0, 2], expected[[4, 5, 6, 7, 0, 1, 2, 3]])  # patch (row 1, column 0)


def test_mismatched_images_are_an_error(tiny_model: Path) -> None:
    model, processor = load_model(tiny_model)
    batch = processor(text=prompt(processor), images=noise_image((56, 56)))
    batch["input_ids"][batch["input_ids"] == processor.image_token_id] = 20
    with pytest.raises(ValueError, match="Image features and image tokens do not match"):
        model(**batch)


@torch.no_grad()
def test_a_batch_gives_the_same_as_its_rows_alone(tiny_model: Path) -> None:
    model, processor = load_model(tiny_model)
    images = [noise_image(size) for size in SIZES]
    texts = [prompt(processor, "the red circle " * (index % 3 + 1)) for index in range(len(SIZES))]
    batched = model(**processor(text=texts, images=[[image] for image in images])).logits
    for row, (text, image) in enumerate(zip(texts, images, strict=True)):
        alone = model(**processor(text=text, images=image)).logits[0]
        assert torch.allclose(batched[row, : alone.shape[0]], alone, atol=1e-5)


@torch.no_grad()
def test_image_repeats_equals_sending_the_images_twice(tiny_model: Path) -> None:
    model, processor = load_model(tiny_model)
    images = [[noise_image((112, 56))], [noise_image((40, 60), seed=1)]]
    texts = [prompt(processor, text) for text in ("a star", "a circle")]
    once, twice = processor(text=texts, images=images), processor(text=texts * 2, images=images * 2)
    shared = model(
        input_ids=twice["input_ids"],
        attention_mask=twice["attention_mask"],
        image_repeats=2,
        pixel_values=once["pixel_values"],
        tgt_sizes=once["tgt_sizes"],
    )
    assert torch.allclose(shared.logits, model(**twice).logits, atol=1e-6)


@torch.no_grad()
def test_generate_continues_with_the_most_probable_tokens_of_the_whole_sequence(tiny_model: Path) -> None:
    model, processor = load_model(tiny_model)
    batch = processor(text=prompt(processor), images=noise_image((112, 56)))
    ids = model.generate(**batch, max_new_tokens=5, do_sample=False, eos_token_id=[])
    logits = model(**{**batch, "input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits
    assert logits[0, -6:-1].argmax(-1).tolist() == ids[0, -5:].tolist()


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")  # vLLM's libraries warn
@pytest.mark.parametrize(
    ("version", "kind"),
    [("2.5", "bucket_1d"), ("2.5", "bucket_2d"), ("2.5", "interpolate"), ("2.6", "bucket_2d"), ("2.6", "interpolate")],
)
def test_log_probabilities_equal_those_of_vllm(version: str, kind: str, tmp_path: Path) -> None:
    """Float32, text alone and images of seven shapes: at most 1e-3 apart.

    vLLM's native MiniCPM-V serves the checkpoint if it implements the position embedding, our registration otherwise.
    """
    save_tiny_model(tmp_path, version=version, positions=kind)
    model, processor = load_model(tmp_path)
    with torch.no_grad():  # as large as the patches, so that a wrong position is noticed
        model.model.vision_model.embeddings.position_embedding.weight.normal_()
    model.save_pretrained(tmp_path)
    import rlaif.inference.vllm_engine

    rlaif.inference.vllm_engine.prepare_environment()
    from vllm import LLM, SamplingParams

    llm = LLM(
        str(tmp_path),
        dtype="float32",
        enforce_eager=True,
        block_size=32,
        kv_cache_memory_bytes=2**28,
        max_model_len=512,
        limit_mm_per_prompt={"image": 1},
    )
    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
    largest_difference, control = 0.0, 0.0
    for image in [None, *(noise_image(size) for size in SIZES)]:
        ids = processor.encode_turn(
            "Is there a red <unk> circle on the left?", has_image=image is not None
        ) + processor.encode_answer("yes no star")
        request: Any = {"prompt_token_ids": ids}
        features = {}
        expanded = ids
        if image is not None:
            request["multi_modal_data"] = {"image": [image]}
            expanded = processor.expand(ids, [image.size])
            sliced = processor(text=prompt(processor), images=image)
            features = {"pixel_values": sliced["pixel_values"], "tgt_sizes": sliced["tgt_sizes"]}
        output: Any = llm.generate([request], params, use_tqdm=False)[0]
        assert output.prompt_token_ids == expanded
        theirs = [next(iter(entry.values())).logprob for entry in output.prompt_logprobs[1:]]
        tokens = torch.tensor([expanded])
        with torch.no_grad():
            logits = model(input_ids=tokens, **features).logits[0, :-1].log_softmax(-1)
        ours = logits.gather(1, tokens[0, 1:, None])[:, 0]
        largest_difference = max(largest_difference, (ours - torch.tensor(theirs)).abs().max().item())
        if image is not None:
            model.model.vision_model.embeddings.kind = "bucket_1d" if kind != "bucket_1d" else "bucket_2d"
            with torch.no_grad():
                wrong = model(input_ids=tokens, **features).logits[0, :-1].log_softmax(-1)
            model.model.vision_model.embeddings.kind = kind
            control = max(control, (wrong - logits).abs().max().item())
    llm.llm_engine.engine_core.shutdown()
    assert largest_difference < 1e-3
    assert control > 1e-2, "negative control: other positions differ"


def test_a_checkpoint_of_another_model_is_an_error_with_the_names_of_its_tensors(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    layers = [f"llm.model.layers.{layer}.mlp.up_proj.weight" for layer in (0, 1)]
    cases = {
        r"missing llm\.lm_head\.weight, resampler\.proj; use": (["llm.lm_head.weight", "resampler.proj"], {}),
        r"unexpected stray\.weight; use the config\.json": ([], {"stray.weight": torch.zeros(2)}),
        r"missing vpm.*; wrong shape llm.*layers\.0.* \[3, 2\] instead of \[128, 128\], llm": (
            ["vpm.post_layernorm.weight"],
            dict.fromkeys(layers, torch.zeros(3, 2)),
        ),
        r"missing .* and \d+ more; use": ([name for name in weights if name.startswith("vpm.")], {}),
    }
    for message, (removed, added) in cases.items():
        kept = {name: value for name, value in weights.items() if name not in removed} | added
        save_file({name: value.clone() for name, value in kept.items()}, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match=message):
            MiniCPMVForConditionalGeneration.from_pretrained(folder)
    content = (tiny_model / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged or truncated"):
        MiniCPMVForConditionalGeneration.from_pretrained(folder)
