"""Folded answers: their layout, and the same log-probabilities and gradients as sequences of their own."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from dpo.collator import PairCollator
from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from model.shared_prefix import FoldedMask, dense_mask, position_ids, segment_ids
from tests.support.pair_rows import pair_row

ROWS = [
    pair_row("a", "red", "yes", "no no", (56, 56)),
    pair_row("b", "is red", "no", "a", (150, 60)),
    pair_row("c", "blue", "yes", "no", None),
    pair_row("d", "star", "a star", "a circle", (40, 90)),
    pair_row("e", "red", "a star", "yes", (56, 56)),  # of the first one's prompt, with one of its answers
    pair_row("f", "red", "blue", "a circle", (56, 56)),
]


def batches(folder: Path, rows: list[Any] = ROWS) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same pairs as separate sequences and with shared prompts."""
    processor = MiniCPMVProcessor.from_pretrained(folder)
    return PairCollator(processor)(rows), PairCollator(processor, shared_prefix=True)(rows)


def test_two_prompts_literally() -> None:
    folds = [[2, 2, 1], [1, 2]]  # a prompt of two tokens with answers of two and one, and one of one with one of two
    assert position_ids(folds).tolist() == [[0, 1, 2, 3, 2, 0, 1, 2]]
    assert segment_ids(folds).tolist() == [[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 0, 1, 1]]
    assert dense_mask(folds)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1, 1, 1],
    ]


@pytest.mark.parametrize("key_heads", [4, 2])
def test_attention_equals_that_with_the_dense_mask(key_heads: int) -> None:
    folds = [[20, 5, 1, 7], [3, 4], [6, 1, 1]]
    generator = torch.Generator().manual_seed(0)
    inputs = query, key, value = [
        torch.randn(1, heads, 48, 16, generator=generator, requires_grad=True) for heads in (4, key_heads, key_heads)
    ]
    weights = torch.randn(1, 4, 48, 16, generator=generator)
    results = []
    for mask in (dense_mask(folds), FoldedMask.of(folds, torch.device("cpu")), dense_mask([[48]])):
        output = scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
        results.append([output, *torch.autograd.grad((output * weights).sum(), inputs)])
    for expected, actual, causal in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
        assert (causal - expected).abs().max() > 0.1  # negative control: without the structure it is another result


def test_attention_on_a_cpu_under_autocast_is_in_float32_with_and_without_gradients() -> None:
    folds = [[20, 5, 1, 7], [3, 4]]
    query = torch.randn(1, 2, 40, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mask = FoldedMask.of(folds, torch.device("cpu"))
    expected = scaled_dot_product_attention(query, query, query, attn_mask=dense_mask(folds))
    with torch.autocast("cpu", torch.bfloat16):
        trained = scaled_dot_product_attention(query, query, query, attn_mask=mask)
        with torch.no_grad():
            read = scaled_dot_product_attention(query.detach(), query.detach(), query.detach(), attn_mask=mask)
        dense = scaled_dot_product_attention(query, query, query, attn_mask=dense_mask(folds))
    torch.testing.assert_close(trained, expected, rtol=0, atol=1e-5)
    assert torch.equal(trained, read)
    assert dense.dtype == torch.bfloat16 and (dense - expected).abs().max() > 1e-4  # negative control


def test_an_attention_that_would_not_mask_is_an_error() -> None:
    mask = FoldedMask.of([[2, 1]], torch.device("cpu"))
    assert mask.shape == (1, 1, 3, 3) and mask.dtype == torch.bool
    with pytest.raises(TypeError, match="a shared prompt needs attention 'sdpa', but another one called add"):
        torch.add(torch.zeros(3, 3), mask)


def log_probs(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Those of the answers' tokens."""
    inputs = {name: value for name, value in batch.items() if name != "completion_mask"}
    values: torch.Tensor = model(**inputs).logits[:, :-1].log_softmax(-1)
    values = values.gather(2, batch["input_ids"][:, 1:, None])[..., 0]
    return values[batch["completion_mask"][:, 1:].bool()]


def gradients(model: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    log_probs(model, batch).pow(2).sum().backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def test_log_probs_and_gradients_equal_those_of_separate_sequences(tiny_model: Path) -> None:
    # float64 for all but norms, because the order of sums, and with it differences in float32, depend on the processor
    model = MiniCPMVForConditionalGeneration.from_pretrained(tiny_model, dtype=torch.float64).eval()
    separate, shared = batches(tiny_model)
    assert "image_repeats" not in shared and "folds" not in separate
    assert [len(lengths) - 1 for lengths in shared["folds"]] == [5, 2, 2, 2]  # 12 answers, of which one occurs twice
    with torch.no_grad():
        torch.testing.assert_close(log_probs(model, shared), log_probs(model, separate), rtol=0, atol=1e-6)
    expected, actual = gradients(model, separate), gradients(model, shared)
    assert expected.keys() == actual.keys() and len(expected) > 20
    for name in expected:
        message = partial("{}: {}".format, name)
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-4, atol=1e-5, msg=message)


@pytest.mark.parametrize("broken", ["mask", "positions"])
def test_log_probs_differ_with_other_masks_or_positions(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Negative control: the equality above can fail."""
    import model.modeling as modeling

    class Causal:
        @staticmethod
        def of(folds: Any, device: torch.device) -> torch.Tensor:
            return dense_mask([[sum(map(sum, folds))]])

    model = MiniCPMVForConditionalGeneration.from_pretrained(tiny_model).eval()
    separate, shared = batches(tiny_model)
    with torch.no_grad():
        expected = log_probs(model, separate)
        if broken == "mask":
            monkeypatch.setattr(modeling, "FoldedMask", Causal)
        else:
            monkeypatch.setattr(modeling, "folded_positions", lambda folds: position_ids([[sum(map(sum, folds))]]))
        assert (log_probs(model, shared) - expected).abs().max() > 1e-3


def test_states_and_features_give_the_same_as_pixels(tiny_model: Path) -> None:
    model = MiniCPMVForConditionalGeneration.from_pretrained(tiny_model).eval()
    for batch in batches(tiny_model):
        pixels, sizes = batch.pop("pixel_values"), batch["tgt_sizes"]
        with torch.no_grad():
            expected = log_probs(model, {**batch, "pixel_values": pixels})
            states = model.get_encoder(modality="image")(pixels, sizes)
            assert torch.equal(log_probs(model, {**batch, "vision_states": states}), expected)
            features = model.get_image_features(pixels, sizes)
            assert torch.equal(log_probs(model, {**batch, "image_features": features}), expected)


def test_prompts_without_images_are_shared_too(tiny_model: Path) -> None:
    model = MiniCPMVForConditionalGeneration.from_pretrained(tiny_model).eval()
    separate, shared = batches(tiny_model, [pair_row("c", "blue", "yes", "no", None)])
    with torch.no_grad():
        torch.testing.assert_close(log_probs(model, shared), log_probs(model, separate), rtol=0, atol=1e-5)
