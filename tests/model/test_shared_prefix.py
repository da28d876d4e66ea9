"""Folded pairs: their layout, and the same log-probabilities and gradients as two sequences."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo.collator import PairCollator
from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from model.shared_prefix import fold
from tests.support.pair_rows import pair_row

ROWS = [
    pair_row("a", "red", "yes", "no no", (56, 56)),
    pair_row("b", "is red", "no", "a", (150, 60)),
    pair_row("c", "blue", "yes", "no", None),
    pair_row("d", "star", "a star", "a circle", (40, 90)),
]


def batches(folder: Path, rows: list[Any] = ROWS) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same pairs as separate sequences and with shared prompts."""
    processor = MiniCPMVProcessor.from_pretrained(folder)
    return PairCollator(processor)(rows), PairCollator(processor, shared_prefix=True)(rows)


def test_a_pair_and_a_shorter_one_literally() -> None:
    ids = torch.tensor([[1, 2, 3, 4], [1, 5, 0, 0], [1, 2, 6, 0], [1, 7, 8, 0]])
    folded = fold(ids, (ids > 0).long(), torch.tensor([2, 1]))
    assert folded.input_ids.tolist()[0] == [1, 2, 3, 4, 6]  # prompt 1 2, chosen 3 4, rejected 6
    assert folded.input_ids.tolist()[1][:4] == [1, 5, 7, 8]
    assert folded.position_ids.tolist() == [[0, 1, 2, 3, 2], [0, 1, 1, 2, 0]]
    assert folded.attention_mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert folded.attention_mask[1, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 0, 1, 1, 0],
        [1, 0, 0, 0, 1],  # padding attends to itself
    ]
    states = folded.unfold(folded.input_ids.unsqueeze(-1).float())[..., 0]
    assert states[ids > 0].tolist() == ids[ids > 0].tolist()


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
    model = MiniCPMVForConditionalGeneration.from_pretrained(tiny_model).eval()
    separate, shared = batches(tiny_model)
    assert "image_repeats" not in shared and "prefix_lengths" not in separate
    with torch.no_grad():
        torch.testing.assert_close(log_probs(model, shared), log_probs(model, separate), rtol=0, atol=1e-5)
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

    def broken_fold(*arguments: Any) -> Any:
        folded = fold(*arguments)
        if broken == "mask":
            folded.attention_mask.copy_(torch.ones_like(folded.attention_mask).tril())
        else:
            folded.position_ids.copy_(torch.arange(folded.position_ids.shape[1]))
        return folded

    model = MiniCPMVForConditionalGeneration.from_pretrained(tiny_model).eval()
    separate, shared = batches(tiny_model)
    with torch.no_grad():
        expected = log_probs(model, separate)
        monkeypatch.setattr(modeling, "fold", broken_fold)
        assert (log_probs(model, shared) - expected).abs().max() > 1e-3


def test_vision_states_give_the_same_as_pixels(tiny_model: Path) -> None:
    model = MiniCPMVForConditionalGeneration.from_pretrained(tiny_model).eval()
    for batch in batches(tiny_model):
        pixels = batch.pop("pixel_values")
        with torch.no_grad():
            states = model.get_encoder(modality="image")(pixels, batch["tgt_sizes"])
            expected = log_probs(model, {**batch, "pixel_values": pixels})
            assert torch.equal(log_probs(model, {**batch, "vision_states": states}), expected)


def test_prompts_without_images_are_shared_too(tiny_model: Path) -> None:
    model = MiniCPMVForConditionalGeneration.from_pretrained(tiny_model).eval()
    separate, shared = batches(tiny_model, [pair_row("c", "blue", "yes", "no", None)])
    with torch.no_grad():
        torch.testing.assert_close(log_probs(model, shared), log_probs(model, separate), rtol=0, atol=1e-5)
