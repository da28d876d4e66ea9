"""`dpo.quantization: 4bit`: what is refused, and, where bitsandbytes is installed, what trains and what is saved."""

import importlib.util
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file

from dpo.policy import INSTALL_BITSANDBYTES, check_policy, load_collator, load_policy
from dpo.stage import run_dpo
from model.parts import parameter_counts
from rlaif.config import Config
from rlaif.errors import ConfigError
from rlaif.memory.training import FOUR_BITS_TWICE
from rlaif.storage.run import Run
from tests.support import ROOT
from tests.support.alignment import align, config_of, kill_at_step, moved, weights
from tests.support.kills.launched import start
from tests.support.pair_rows import varied_pairs, write_pairs

LORA: dict[str, Any] = {"method": "lora", "quantization": "4bit", "lora": {"r": 4, "alpha": 8, "dropout": 0.0}}


def test_only_adapters_train_on_four_bits() -> None:
    message = r"quantization is '4bit', but method 'full' trains the weights themselves; set dpo.method=lora, or remove"
    with pytest.raises(ValidationError, match=message):
        Config.model_validate({"labeler": {"model": "x"}, "policy": {"model": "x"}, "dpo": {"quantization": "4bit"}})


def test_without_bitsandbytes_the_run_folder_stays_as_it_was(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else original(name))
    config = config_of(tiny_model, **LORA)
    write_pairs(tmp_path, config, varied_pairs(2))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError, match=rf"needs bitsandbytes, .* install it: {INSTALL_BITSANDBYTES}$"):
        run_dpo(Run(tmp_path, config, "dpo"))
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert INSTALL_BITSANDBYTES.split()[-1] in (ROOT / "requirements" / "cuda.txt").read_text().split()


@pytest.mark.parametrize("variable, name", [("ACCELERATE_USE_FSDP", "fsdp"), ("ACCELERATE_USE_DEEPSPEED", "zero")])
def test_shared_weights_are_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, variable: str, name: str
) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ConfigError, match=f"SHARDING={name} divides the model .* use SHARDING=ddp, or remove"):
        check_policy(config_of(tiny_model, **LORA))


def log_of(run: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((run / "dpo" / "log.json").read_text())
    return entries


def answer_log_probs(model: Any, config: Config) -> torch.Tensor:
    """[2B]: the summed log-probs of the answers of the pairs, chosen ones first."""
    batch: dict[str, Any] = dict(load_collator(config.policy, config.dpo, None)(varied_pairs(8)))
    labels, mask = batch["input_ids"][:, 1:], batch.pop("completion_mask")[:, 1:]
    with torch.no_grad():
        logits = model(**batch).logits[:, :-1]
    log_probs: torch.Tensor = logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    sums: torch.Tensor = (log_probs * mask).sum(-1)
    return sums


@pytest.mark.slow
@pytest.mark.parametrize("train_resampler", [False, True])
def test_an_adapter_trained_on_four_bits_is_merged_into_the_whole_weights(
    tiny_model: Path, tmp_path: Path, train_resampler: bool
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from peft import PeftModel

    config = config_of(tiny_model, **{**LORA, "lora": {**LORA["lora"], "train_resampler": train_resampler}})
    run = align(tmp_path / "run", config)
    log = log_of(run)
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert log[4]["rewards/margins"] > 0.01 and log[4]["loss"] < math.log(2)

    names = weights(tiny_model)
    projections = {name for name in names if name.startswith("llm.") and "_proj" in name}
    resampler = {name for name in names if name.startswith("resampler.")}
    assert moved(tiny_model, run / "policy") == projections | (resampler if train_resampler else set())

    quantized: Any = load_policy(config.policy, trains=False, compute=torch.float32)
    packed = [name for name, weight in quantized.named_parameters() if weight.dtype == torch.uint8]
    assert len(packed) == len(projections) and all("language_model" in name for name in packed)
    weight: Any = quantized.get_decoder().layers[0].self_attn.q_proj.weight
    scales = weight.quant_state
    held = sum(tensor.numel() * tensor.element_size() for tensor in (weight, scales.absmax, scales.state2.absmax))
    assert held == FOUR_BITS_TWICE * scales.shape.numel() == 128 * 128 / 2 + 256 + 4
    whole: Any = load_policy(config.policy, trains=False)
    assert parameter_counts(quantized)["llm"][1] == parameter_counts(whole)["llm"][1]
    before, start = answer_log_probs(quantized, config), answer_log_probs(whole, config)
    trained = answer_log_probs(PeftModel.from_pretrained(quantized, str(run / "dpo" / "adapter")), config)
    saved = answer_log_probs(
        load_policy(config.policy.model_copy(update={"model": str(run / "policy")}), trains=False), config
    )
    quantization_error, learned = (trained - saved).abs().mean(), (saved - start).abs().mean()
    print(f"log-probs of answers: quantized {(before - start).abs().mean():.3f} from the start, trained as quantized "
          f"{quantization_error:.3f} from saved, saved {learned:.3f} from the start")  # fmt: skip
    assert 0 < quantization_error < 0.1 * learned


@pytest.mark.slow
def test_all_that_saves_time_or_memory_leaves_the_losses_unchanged(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    plain = align(tmp_path / "plain", config_of(tiny_model, **LORA, shared_prefix=False, shared_vision=False))
    saving = {"precompute_ref_log_probs": True, "gradient_checkpointing": True}
    saved = align(tmp_path / "saved", config_of(tiny_model, saving, **LORA, cache_vision=str(tmp_path / "cache")))
    assert list((tmp_path / "cache").rglob("*.safetensors"))
    losses = [[entry["loss"] for entry in log_of(run) if "loss" in entry] for run in (plain, saved)]
    assert len(losses[0]) == 5 and losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.slow
def test_a_killed_training_on_four_bits_resumes_to_the_same_weights(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the precisions of a GPU: weights in bfloat16, autocast, adapters in float32."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    trainer = {"save_steps": 1, "bf16": True, "use_cpu": True}
    config = config_of(tiny_model, trainer, **{**LORA, "lora": {**LORA["lora"], "train_resampler": True}})
    config = config.model_copy(update={"policy": config.policy.model_copy(update={"dtype": "bfloat16"})})
    whole = align(tmp_path / "whole", config)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_at_step(patch, 2)
        align(tmp_path / "killed", config)
    run_dpo(Run(tmp_path / "killed", config, "dpo"))
    assert moved(whole / "policy", tmp_path / "killed" / "policy") == set()
    adapter = load_file(whole / "dpo" / "checkpoint-4" / "adapter_model.safetensors")
    assert {tensor.dtype for name, tensor in adapter.items() if "lora_" in name} == {torch.float32}
    assert {tensor.dtype for tensor in weights(whole / "policy").values()} == {torch.bfloat16}


@pytest.mark.slow
def test_two_processes_train_on_four_bits_as_one_does(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    runs = []
    for processes in (1, 2):
        trainer = {"adam_epsilon": 0.01, "per_device_train_batch_size": 2 // processes}
        config = config_of(tiny_model, trainer, **LORA)
        run = tmp_path / str(processes)
        write_pairs(tmp_path / "pairs" / run.name, config, varied_pairs(8))
        shutil.copytree(tmp_path / "pairs" / run.name, run)  # which this process does not lock
        file = tmp_path / f"{processes}.yaml"
        file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
        if processes == 1:
            run_dpo(Run(run, config, "dpo"))
        else:
            done = start("ddp", ["dpo", "--config", str(file), "--run", str(run)])
            assert done.returncode == 0, done.stderr
        runs.append(run)
    losses = [[entry["loss"] for entry in log_of(run) if "loss" in entry] for run in runs]
    assert len(losses[0]) == 5 and losses[0] == pytest.approx(losses[1], abs=1e-4)
    for name, tensor in weights(runs[0] / "policy").items():
        torch.testing.assert_close(tensor, weights(runs[1] / "policy")[name], atol=1e-4, rtol=1e-4)
