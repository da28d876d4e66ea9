"""transformers still has what `model.transformers_private` uses; a failing test names what to compare."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import Trainer

from model import transformers_private as private


def test_the_installed_version_is_the_one_that_was_tested() -> None:
    assert transformers.__version__ == private.TESTED_VERSION, (
        "transformers moved: run tests/model, tests/training and tests/dpo, compare model/transformers_private.py with "
        "its source, and set TESTED_VERSION"
    )


@pytest.mark.parametrize("name", ["_load_from_checkpoint", "_load_best_model"])
def test_trainer_loads_checkpoints_with_the_methods_that_we_override(name: str) -> None:
    theirs, ours = (inspect.signature(getattr(kind, name)) for kind in (Trainer, private.ReleasedCheckpoints))
    assert list(theirs.parameters) == list(ours.parameters), f"ReleasedCheckpoints.{name}: arguments of Trainer's"
    assert f"self.{name}(" in inspect.getsource(Trainer), f"ReleasedCheckpoints.{name}: Trainer calls it"


def test_trainer_writes_its_state_last() -> None:
    source = inspect.getsource(Trainer._save_checkpoint)
    state = source.index("TRAINER_STATE_NAME")
    for earlier in ("self.save_model(", "self._save_optimizer_and_scheduler("):
        assert source.index(earlier) < state, "last_complete_checkpoint: what Trainer writes last"


def test_an_incomplete_checkpoint_is_removed(tmp_path: Path) -> None:
    assert private.last_complete_checkpoint(tmp_path / "missing") is None
    for step in (5, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-5" / "trainer_state.json").touch()
    assert private.last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-5")
    assert not (tmp_path / "checkpoint-10").exists()


def test_conversion_mappings_are_registered_by_class() -> None:
    from transformers import conversion_mapping

    import model.modeling  # registers it

    mapping = conversion_mapping.get_checkpoint_conversion_mapping("MiniCPMVForConditionalGeneration")
    assert mapping is not None and len(mapping) == len(model.modeling.PREFIXES), "register_released_names"


def test_a_special_token_becomes_text_and_keeps_its_id() -> None:
    from tokenizers import Tokenizer, models

    backend = Tokenizer(models.BPE({"!": 0, "a": 1, "<s>": 2}, []))
    tokenizer: Any = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", extra_special_tokens=["!"]
    )
    assert tokenizer.decode([1, 0, 2], skip_special_tokens=True) == "a", "declare_text: special tokens are skipped"
    private.declare_text(tokenizer, ["!"])
    assert tokenizer.decode([1, 0, 2], skip_special_tokens=True).replace(" ", "") == "a!", "declare_text"
    assert tokenizer.encode("a!<s>", add_special_tokens=False) == [1, 0, 2]
    assert tokenizer.all_special_tokens == ["<s>"]


def test_layers_and_mask_of_the_vision_encoder() -> None:
    config: Any = transformers.SiglipVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    config._attn_implementation = "eager"
    hidden = torch.randn(1, 3, 8)
    mask = private.create_bidirectional_mask(config, hidden, torch.tensor([[True, True, False]]))
    encoder = private.SiglipEncoder(config).eval()
    masked = encoder(hidden, attention_mask=mask).last_hidden_state[:, :2]
    alone = encoder(hidden[:, :2]).last_hidden_state
    assert torch.allclose(masked, alone, atol=1e-6), (
        "SiglipEncoder, create_bidirectional_mask: padding is not attended to"
    )
