"""A training that cannot fit the GPU is refused at its start, before anything is loaded, with what to change."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlaif.config import TrainingConfig
from rlaif.errors import ConfigError
from rlaif.memory.card import GIB, card_of
from tests.support import ROOT
from tests.support.alignment import config_of

pytestmark = pytest.mark.slow


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(name="a small GPU", total_memory=0.035 * GIB)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: device)


def arguments(**changes: Any) -> Any:
    values: dict[str, Any] = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1}
    values |= {
        "gradient_checkpointing": True,
        "bf16": True,
        "optim": "adamw_torch_fused",
        "precompute_ref_log_probs": True,
    }
    values |= {"world_size": 1, "deepspeed_plugin": None}
    return SimpleNamespace(**{**values, **changes})


@pytest.mark.usefixtures("small_gpu")
def test_dpo_says_what_fits() -> None:
    from dpo.stage import check_memory

    config = config_of(ROOT / "assets" / "policy", method="full")
    with pytest.raises(
        ConfigError, match=r"weights, gradients and optimizer of .* need 0 GiB .* and a small GPU, .*less; "
    ):
        check_memory(config, arguments())
    lora = config.model_copy(update={"dpo": config.dpo.model_copy(update={"method": "lora"})})
    check_memory(lora, arguments())  # its certain part fits; whether a batch does is not certain


@pytest.mark.usefixtures("small_gpu")
def test_a_training_stage_says_so_too(tmp_path: Path) -> None:
    from training.stage import check_memory

    config = TrainingConfig(stage="finetune", model=str(ROOT / "assets" / "policy"), data=["rows.parquet"])
    with pytest.raises(ConfigError, match="make plan"):
        check_memory(config, arguments())
    check_memory(config.model_copy(update={"freeze": ["llm"], "dtype": "bfloat16"}), arguments())


def test_the_card_is_the_one_named_or_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert card_of(24).bytes == 24 * GIB
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert card_of(None).title == "a GPU of 80 GiB, as this machine has none (GPU_MEMORY= sets another)"
