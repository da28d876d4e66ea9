"""The output layer: the losses and gradients of the full logits, which it never holds."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from model import output_layer
from model.output_layer import OutputLayer, mean_loss
from model.processing import IMAGE_MARKER, NO_LOSS
from tests.support.tiny import load_model, noise_image

VOCABULARY, WIDTH = 2048, 16


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """128 rows at a time."""
    monkeypatch.setattr(output_layer, "LOGITS_AT_ONCE", VOCABULARY)


def full(
    layer: OutputLayer, hidden: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None, count: Any
) -> torch.Tensor:
    """The reference: all logits."""
    logits = layer(hidden)[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=NO_LOSS, reduction="none"
    )
    each = (labels[:, 1:] != NO_LOSS).flatten().float() if weights is None else weights[:, 1:].flatten()
    total: torch.Tensor = (losses * each).sum() / (each.sum() if count is None else count)
    return total


def example(rows: int = 3, length: int = 150) -> tuple[OutputLayer, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Layer, hidden states, labels, of which a third is missing, and weights of labels."""
    torch.manual_seed(0)
    labels = torch.randint(VOCABULARY, (rows, length)).where(torch.rand(rows, length) > 1 / 3, NO_LOSS)
    weights = torch.rand(rows, length).where(labels != NO_LOSS, 0)
    return OutputLayer(WIDTH, VOCABULARY), torch.randn(rows, length, WIDTH, requires_grad=True), labels, weights


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [None, 1234])
def test_losses_and_gradients_are_those_of_the_full_logits(weighted: bool, count: int | None) -> None:
    layer, hidden, labels, weights = example()
    results = []
    for loss_of in (full, mean_loss):
        loss = loss_of(layer, hidden, labels, weights if weighted else None, count)
        results.append([loss, *torch.autograd.grad(loss, (hidden, layer.weight))])
    for expected, got in zip(*results, strict=True):
        assert torch.allclose(got, expected, atol=1e-5, rtol=1e-5)
    assert results[0][1].abs().max() > 1e-4, "a comparison of zeros"


def test_a_frozen_layer_passes_gradients_on_and_no_label_is_no_loss() -> None:
    layer, hidden, labels, _ = example()
    expected = torch.autograd.grad(full(layer, hidden, labels, None, None), hidden)[0]
    layer.requires_grad_(False)
    mean_loss(layer, hidden, labels).backward()
    assert layer.weight.grad is None and hidden.grad is not None
    assert torch.allclose(hidden.grad, expected, atol=1e-5)
    layer.requires_grad_(True)  # other processes wait for its gradient
    mean_loss(layer, hidden, torch.full_like(labels, NO_LOSS), count=5).backward()
    assert layer.weight.grad is not None and not layer.weight.grad.any()


def largest_allocation(loss_of: Any) -> int:
    """Bytes that the operation with the largest net allocation takes, forward and backward."""
    layer, hidden, labels, _ = example(8, 500)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        loss_of(layer, hidden, labels, None, None).backward()
    return max(int(event.self_cpu_memory_usage) for event in recorded.events())


def test_logits_of_all_tokens_are_never_held() -> None:
    every, chunk = 8 * 499 * VOCABULARY * 4, 128 * VOCABULARY * 4
    assert largest_allocation(full) >= every, "the reference holds them"
    assert largest_allocation(mean_loss) <= chunk


def test_autocast_computes_in_bfloat16() -> None:
    layer, hidden, labels, _ = example()
    exact = mean_loss(layer, hidden, labels)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = mean_loss(layer, hidden, labels)
        rounded.backward()
    assert rounded.dtype == torch.float32 and layer.weight.grad is not None
    assert 0 < (rounded - exact).abs() < 1e-2


def test_the_model_gives_the_mean_loss_of_its_logits_and_keeps_the_layer_when_its_vocabulary_grows(
    tiny_model: Path,
) -> None:
    model, processor = load_model(tiny_model)
    batch = processor(text=f"{IMAGE_MARKER}red star", images=noise_image((56, 56)))
    labels = batch["input_ids"].clone()
    labels[:, :7] = NO_LOSS
    expected = torch.nn.functional.cross_entropy(model(**batch).logits[0, :-1], labels[0, 1:])
    outputs = model(**batch, labels=labels)
    assert outputs.logits is None and outputs.loss.item() == pytest.approx(expected.item(), abs=1e-5)
    size = model.config.vocab_size
    before = model.lm_head.weight.detach().clone()
    model.resize_token_embeddings(size + 3)
    assert isinstance(model.lm_head, OutputLayer) and model.lm_head.out_features == size + 3
    assert torch.equal(model.lm_head.weight[:size], before)
    assert model(**batch, labels=labels).loss > 0
