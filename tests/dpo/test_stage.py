"""The dpo stage on the tiny model: which weights change, what is saved, and how a killed stage resumes."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo.stage import run_dpo
from rlaif.errors import ModelError, RunMismatchError
from rlaif.storage.run import Run
from tests.support.alignment import align, config_of, kill_at_step, moved, weights
from tests.support.pair_rows import varied_pairs
from tests.support.tiny import save_tiny_model


@pytest.mark.slow
def test_full_training_changes_exactly_the_parts_that_are_not_frozen(tiny_model: Path, tmp_path: Path) -> None:
    run = align(tmp_path / "run", config_of(tiny_model))
    names = weights(tiny_model).keys()
    assert moved(tiny_model, run / "policy") == {name for name in names if not name.startswith("vpm.")}

    log = json.loads((run / "dpo" / "log.json").read_text())
    assert log[0]["step"] == 0
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert log[0]["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert log[4]["step"] == 4
    assert log[4]["rewards/margins"] > 0.01
    assert log[4]["loss"] < math.log(2)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["dpo"]["first_sigmoid_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert metrics["dpo"]["last_margin"] == log[4]["rewards/margins"]
    assert metrics["dpo"]["steps"] == 4
    assert metrics["stages"]["dpo"]["kept"] == {"pairs": 8}
    assert Run(run, config_of(tiny_model), "evaluate").identity("policy")
    assert not (run / "dpo" / "cache").exists()


@pytest.mark.slow
def test_aligned_policy_is_a_released_checkpoint_like_its_start(tiny_model: Path, tmp_path: Path) -> None:
    run = align(tmp_path / "run", config_of(tiny_model))
    assert {file.name for file in tiny_model.iterdir()} == {file.name for file in (run / "policy").iterdir()}
    for name in ("config.json", "generation_config.json", "processor_config.json", "tokenizer.json"):
        start, end = (json.loads((folder / name).read_text()) for folder in (tiny_model, run / "policy"))
        end.get("vision_config", {}).pop("dtype", None)  # transformers adds it when it loads a model
        assert end == start


@pytest.mark.slow
def test_version_2_6_is_aligned_like_2_5(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "tiny", version="2.6")
    run = align(tmp_path / "run", config_of(tmp_path / "tiny"))
    names = weights(tmp_path / "tiny").keys()
    assert moved(tmp_path / "tiny", run / "policy") == {name for name in names if not name.startswith("vpm.")}


@pytest.mark.slow
def test_frozen_parts_follow_the_config(tiny_model: Path, tmp_path: Path) -> None:
    run = align(tmp_path / "run", config_of(tiny_model, freeze=["vision", "resampler"]))
    assert moved(tiny_model, run / "policy") == {name for name in weights(tiny_model) if name.startswith("llm.")}


@pytest.mark.slow
@pytest.mark.parametrize("train_resampler", [False, True])
def test_lora_merges_into_a_full_checkpoint(tiny_model: Path, tmp_path: Path, train_resampler: bool) -> None:
    lora = {"r": 4, "alpha": 8, "dropout": 0.1, "train_resampler": train_resampler}
    run = align(tmp_path / "run", config_of(tiny_model, method="lora", lora=lora))
    projections = {name for name in weights(tiny_model) if name.startswith("llm.") and "_proj" in name}
    resampler = {name for name in weights(tiny_model) if name.startswith("resampler.")}
    assert len(projections) == 2 * 7
    assert moved(tiny_model, run / "policy") == projections | (resampler if train_resampler else set())
    assert (run / "dpo" / "adapter" / "adapter_model.safetensors").is_file()
    assert json.loads((run / "dpo" / "log.json").read_text())[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.slow
def test_bfloat16_checkpoint_trains_in_float32_and_stays_bfloat16(tiny_model: Path, tmp_path: Path) -> None:
    from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor

    half = tmp_path / "half"
    MiniCPMVForConditionalGeneration.from_pretrained(tiny_model, dtype=torch.bfloat16).save_pretrained(half)
    MiniCPMVProcessor.from_pretrained(tiny_model).save_pretrained(half)
    run = align(tmp_path / "run", config_of(half))
    assert {x.dtype for x in weights(run / "policy").values()} == {torch.bfloat16}
    assert {x.dtype for x in weights(run / "dpo" / "checkpoint-4").values()} == {torch.float32}


@pytest.mark.slow
def test_the_sft_term_is_added_to_a_sigmoid_loss_that_starts_at_ln_2(tiny_model: Path, tmp_path: Path) -> None:
    losses = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5], "gradient_checkpointing": True}
    run = align(tmp_path / "run", config_of(tiny_model, losses))
    start = json.loads((run / "dpo" / "log.json").read_text())[0]
    assert start["sigmoid_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert start["loss"] - math.log(2) == pytest.approx(0.5 * math.log(500), rel=0.2)  # random model: a guess among 500


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
def test_shared_vision_and_shared_prefix_do_not_change_the_losses(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    from dpo.trainer import PairTrainer

    same = []  # whether the shared states equal those of a forward pass in that precision, and in no other
    original = PairTrainer.with_vision_states

    def with_vision_states(self: PairTrainer, inputs: dict[str, Any]) -> Any:
        shared = original(self, inputs)
        encoder = self.model.get_encoder(modality="image")
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            expected = encoder(inputs["pixel_values"], inputs["tgt_sizes"])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=not bf16):
            other = encoder(inputs["pixel_values"], inputs["tgt_sizes"])
        same.append(torch.equal(shared["vision_states"], expected) and not torch.equal(expected, other))
        return shared

    monkeypatch.setattr(PairTrainer, "with_vision_states", with_vision_states)
    losses = []
    for shared in (False, True):
        switches = {"shared_prefix": shared, "shared_vision": shared}
        trainer: dict[str, Any] = {"dataloader_num_workers": 2 * shared}  # workers change nothing either
        if bf16:
            trainer |= {"bf16": True, "use_cpu": True}
        run = align(tmp_path / str(shared), config_of(tiny_model, trainer, **switches))
        log = json.loads((run / "dpo" / "log.json").read_text())
        losses.append([entry["loss"] for entry in log if "loss" in entry])
    assert same == [True] * 4
    assert losses[0] == pytest.approx(losses[1], abs=2e-2 if bf16 else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_precomputed_references_give_the_same_losses_without_a_second_model(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    from dpo.trainer import PairTrainer

    references = []
    original: Any = PairTrainer.compute_ref_log_probs

    def compute_ref_log_probs(self: PairTrainer, *args: Any) -> Any:
        references.append(self.ref_model)
        return original(self, *args)

    monkeypatch.setattr(PairTrainer, "compute_ref_log_probs", compute_ref_log_probs)
    more = {"num_train_epochs": 2, "max_steps": -1}
    method_settings = {"method": method, "lora": {"dropout": 0.0}}  # dropout would change the numbers
    runs = {
        once: align(
            tmp_path / str(once), config_of(tiny_model, {**more, "precompute_ref_log_probs": once}, **method_settings)
        )
        for once in (False, True)
    }
    assert references == [None] * 4  # 8 pairs, 2 at a time, once for two epochs
    losses = [
        [entry["loss"] for entry in json.loads((run / "dpo" / "log.json").read_text()) if "loss" in entry]
        for run in runs.values()
    ]
    assert len(losses[0]) == 9 and losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "when, kind, message",
    [
        (0, ModelError, "differ before the first update: .*, not 0; set policy.dtype to float32, or dpo.trainer"),
        (2, AssertionError, "the reference changed"),
    ],
)
def test_a_wrong_reference_stops_the_stage(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int, kind: type[Exception], message: str
) -> None:
    from dpo.trainer import PairTrainer

    original = PairTrainer.compute_loss

    def compute_loss(self: PairTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == when:
            assert self.ref_model is not None
            with torch.no_grad():
                self.ref_model.lm_head.weight += 0.1 * torch.randn_like(self.ref_model.lm_head.weight)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(PairTrainer, "compute_loss", compute_loss)
    with pytest.raises(kind, match=message):
        align(tmp_path / "run", config_of(tiny_model))
    assert not (tmp_path / "run" / "policy").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_killed_training_resumes_to_the_same_weights(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    trainer = {"save_steps": 1, "learning_rate": 1e-3, "lr_scheduler_type": "linear"}
    lora = {"r": 4, "dropout": 0.0, "train_resampler": True}
    config = config_of(tiny_model, trainer, method=method, lora=lora)
    pairs = varied_pairs(8)
    for first, second in zip(pairs[:4], pairs[4:], strict=True):  # prompts of two pairs, as the stages make them
        second["prompt_id"] = first["prompt_id"]
    undisturbed = align(tmp_path / "undisturbed", config, pairs)

    with monkeypatch.context() as patch:
        kill_at_step(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            align(tmp_path / "killed", config, pairs)
    killed = tmp_path / "killed"
    (killed / "dpo" / "checkpoint-3" / "trainer_state.json").unlink()  # as if the kill had come while saving it
    assert not (killed / "policy").exists()
    run_dpo(Run(killed, config, "dpo"))

    expected, resumed = weights(undisturbed / "policy"), weights(killed / "policy")
    for name in expected:
        torch.testing.assert_close(resumed[name], expected[name], rtol=0, atol=1e-6)
    logs = [json.loads((run / "dpo" / "log.json").read_text()) for run in (undisturbed, killed)]
    margins = [[entry["rewards/margins"] for entry in log if "rewards/margins" in entry] for log in logs]
    assert margins[1] == pytest.approx(margins[0], abs=1e-5)
    assert len(margins[0]) == 5


@pytest.mark.slow
def test_finished_stage_does_nothing_and_other_settings_are_refused(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = align(tmp_path / "run", config_of(tiny_model))
    before = (run / "policy" / "model.safetensors").stat().st_mtime_ns
    assert f"next     make report RUN={run}, with the same CONFIG and SET\n" in capsys.readouterr().out, "no test split"
    run_dpo(Run(run, config_of(tiny_model), "dpo"))
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(RunMismatchError, match=r"learning_rate: 0\.01 -> 0\.5"):
        run_dpo(Run(run, config_of(tiny_model, {"learning_rate": 0.5}), "dpo"))
    assert (run / "policy" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_best_checkpoint_is_chosen_on_the_validation_pairs(tiny_model: Path, tmp_path: Path) -> None:
    trainer = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_rewards/margins",
        "greater_is_better": False,  # the least trained one, so that the last is not the best
    }
    run = align(tmp_path / "run", config_of(tiny_model, trainer), [*varied_pairs(8), *varied_pairs(4, "validation")])
    log = json.loads((run / "dpo" / "log.json").read_text())
    margins = {entry["step"]: entry["eval_rewards/margins"] for entry in log if "eval_rewards/margins" in entry}
    best = min(margins, key=lambda step: margins[step])
    assert best < 4
    saved = weights(run / "dpo" / f"checkpoint-{best}")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in weights(run / "policy").items())


@pytest.mark.slow
def test_full_training_of_a_bfloat16_policy_moves_its_weights_and_starts_at_its_reference(
    tiny_model: Path, tmp_path: Path
) -> None:
    """A learning rate of 5e-7 is below the rounding step of nearly all bfloat16 weights: they would not move."""
    trainer = {"learning_rate": 5e-7, "bf16": True, "save_steps": 4}
    config = config_of(tiny_model, trainer)
    config = config.model_copy(update={"policy": config.policy.model_copy(update={"dtype": "bfloat16"})})
    run = align(tmp_path / "run", config)
    log = json.loads((run / "dpo" / "log.json").read_text())
    assert log[0]["rewards/chosen"] == log[0]["rewards/rejected"] == 0, "the reference computes what the policy does"
    start, trained = weights(tiny_model), weights(run / "dpo" / "checkpoint-4")
    names = [name for name in start if name.startswith(("resampler.", "llm.model.layers."))]
    moved_values = sum(int((trained[name] != start[name]).sum()) for name in names)
    assert moved_values > 0.9 * sum(start[name].numel() for name in names)
    rounded = sum(int((trained[name].bfloat16() != start[name].bfloat16()).sum()) for name in names)
    assert rounded < 0.1 * moved_values, "in bfloat16 alone hardly any would have moved"
    assert {tensor.dtype for tensor in weights(run / "policy").values()} == {torch.bfloat16}
