"""The attention of packed training: which one is chosen, and that FlexAttention computes what the others do."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.attention.flex_attention as flex
from torch import nn
from transformers import TrainingArguments

from model.shared_prefix import attend, block_mask, dense_mask, flex_attend
from rlaif.errors import ConfigError
from tests.support.tiny import load_model
from training.attention import choose_attention, set_attention, set_vision_attention

FOLDS = [[30, 12, 9], [17], [60, 20], [3]]
LENGTH = sum(map(sum, FOLDS))
CPU = torch.device("cpu")


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlexAttention as its uncompiled reference."""
    monkeypatch.setattr(
        "transformers.integrations.flex_attention.compile_friendly_flex_attention",
        lambda *tensors, training, **settings: flex.flex_attention(*tensors, **settings),
    )


@pytest.fixture
def with_backward(uncompiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch has the backward pass of the reference for the CPU, but does not release it."""
    monkeypatch.setattr(flex, "_validate_device", lambda *tensors: None)


Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def inputs(gradients: bool = True) -> Tensors:
    """Queries of four heads, keys and values of two."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, LENGTH, 16, requires_grad=gradients) for heads in (4, 2, 2))
    return query, key, value


def flex_output(tensors: Tensors, folds: Any = FOLDS) -> torch.Tensor:
    output, _ = flex_attend(nn.Module(), *tensors, block_mask(folds, CPU), scaling=0.25)
    return output.transpose(1, 2)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_computes_what_the_dense_mask_and_single_samples_do(with_backward: None) -> None:
    tensors = inputs()
    settings: dict[str, Any] = {"scale": 0.25, "enable_gqa": True}
    outputs = [
        nn.functional.scaled_dot_product_attention(*tensors, attn_mask=dense_mask(FOLDS), **settings),
        attend(*tensors, FOLDS, **settings),
        flex_output(tensors),
    ]
    expected, *others = ([output, *torch.autograd.grad(output.square().sum(), tensors)] for output in outputs)
    for other in others:
        for actual, wanted in zip(other, expected, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)
    mixed = flex_output(tensors, [[LENGTH]])
    assert (mixed - expected[0]).abs().max() > 1e-2, "negative control: one sample"


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_model_with_flex_attention_gives_the_same_states_also_under_autocast(
    tiny_model: Path, uncompiled: None
) -> None:
    model, _ = load_model(tiny_model)
    ids = torch.randint(10, 200, (1, LENGTH))
    positions = torch.cat([torch.arange(length) for fold in FOLDS for length in fold]).unsqueeze(0)
    batch: dict[str, Any] = {"input_ids": ids, "position_ids": positions, "folds": FOLDS, "use_cache": False}
    with torch.no_grad():
        split = model.model(**batch).last_hidden_state
        set_attention(model, "flex")
        assert model.model.vision_model.config._attn_implementation == "sdpa"
        torch.testing.assert_close(model.model(**batch).last_hidden_state, split, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.model(**batch).last_hidden_state
    assert 0 < (rounded.float() - split).abs().max() < 0.2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # which Inductor imports
def test_compiled_flex_attention_computes_the_same() -> None:
    """On CPU it compiles for inference only."""
    tensors = inputs(gradients=False)
    output, _ = flex_attend(nn.Module(), *tensors, block_mask(FOLDS, CPU), scaling=0.25)
    expected = attend(*tensors, FOLDS, scale=0.25, enable_gqa=True)
    torch.testing.assert_close(output.transpose(1, 2), expected, rtol=1e-4, atol=1e-5)


CONFIG = SimpleNamespace(hidden_size=64, num_attention_heads=4, num_key_value_heads=2)


def test_samples_are_split_where_flex_attention_does_not_train_and_that_is_said(uncompiled: None) -> None:
    choose = partial(choose_attention, device=CPU, config=CONFIG, autocast=None, weights=torch.float32)
    attention, reason = choose(None)
    assert attention == "split" and reason.endswith("FlexAttention does not train on CPU")
    with pytest.raises(NotImplementedError, match="does not support backward on CPU"):
        flex_output(inputs())  # if this passes, a new torch can: choose it
    assert choose("dense") == ("dense", "attention dense, as set")
    with pytest.raises(ConfigError, match=r"attention is flex, but .* CPU; remove the key, or set split or dense"):
        choose("flex")


def test_an_attention_that_does_not_compile_is_a_reason_and_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another device than the CPU, here one without data."""

    def broken(*tensors: Any, **settings: Any) -> Any:
        raise RuntimeError("no compiler:\n  gcc")

    monkeypatch.setattr("training.attention.block_mask", lambda folds, device: None)
    monkeypatch.setattr("training.attention.flex_attend", broken)
    choose = partial(choose_attention, device=torch.device("meta"), config=CONFIG, autocast=None, weights=torch.float32)
    problem = "FlexAttention does not compile here (RuntimeError: no compiler: gcc)"
    assert choose(None) == ("split", f"attention split, one sample after the other: {problem}")
    monkeypatch.setattr("training.attention.flex_attend", lambda module, query, *rest, **settings: (query, None))
    assert choose(None)[0] == choose("flex")[0] == "flex"


@pytest.mark.parametrize(("bf16", "expected"), [(True, "eager"), (False, "sdpa")])
def test_the_vision_encoder_has_the_attention_that_trains_fastest(
    bf16: bool, expected: str, tiny_model: Path, tmp_path: Path
) -> None:
    model, _ = load_model(tiny_model)
    vision = model.model.vision_model
    set_vision_attention(vision, TrainingArguments(output_dir=str(tmp_path), bf16=bf16, use_cpu=True))
    assert vision.config._attn_implementation == expected
