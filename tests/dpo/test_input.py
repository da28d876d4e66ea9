"""Input of the dpo stage: unusable pairs, invalid settings, models of another type."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dpo.__main__ import main
from dpo.arguments import trainer_arguments
from dpo.policy import load_collator, load_policy
from dpo.stage import run_dpo
from rlaif.config import Config, DpoSection, FeedbackSection, ModelSection
from rlaif.errors import ConfigError, InputError, ModelError
from rlaif.storage.run import Run
from tests.support.alignment import align, config_of
from tests.support.pair_rows import pair_row, varied_pairs, write_pairs
from tests.support.tiny import save_tiny_model


def test_unusable_pairs_are_dropped_with_their_reason(tiny_model: Path, tmp_path: Path) -> None:
    rows = [
        *varied_pairs(4),
        pair_row("long", "is there a red circle in this picture " * 20, "yes", "no"),
        pair_row("same", "red", "a circle " * 30 + "left", "a circle " * 30 + "right"),
        *varied_pairs(2, split="validation"),
    ]
    config = config_of(tiny_model, {"max_length": 160, "logging_steps": 10}, max_answer_tokens=20)
    run = align(tmp_path / "run", config, rows)
    dropped = pq.read_table(run / "dropped.parquet").to_pylist()
    assert {(row["stage"], row["row_id"], row["reason"]) for row in dropped} == {
        ("dpo", "long", "prompt_too_long"),
        ("dpo", "same", "same_after_cut"),
    }
    assert json.loads((run / "metrics.json").read_text())["dpo"]["pairs"] == 4


@pytest.mark.parametrize(
    "trainer, message",
    [
        ({"learning_rat": 1e-6}, "unknown key 'dpo.trainer.learning_rat'; did you mean learning_rate"),
        ({"learning_rate": "fast"}, "dpo.trainer.learning_rate is 'fast': Input should be a valid number"),
        ({"output_dir": "elsewhere"}, "dpo.trainer.output_dir cannot be set: checkpoints are in the run folder"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}, "`loss_weights` must have the same length"),
        ({"label_smoothing": 0.1}, "label_smoothing is 0.1, but loss sigmoid ignores it; remove it, or use aot"),
    ],
)
def test_trainer_keys_are_read_strictly(tmp_path: Path, trainer: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        trainer_arguments(config_of(tmp_path, trainer), tmp_path)
    assert "\n" not in str(caught.value)


def test_defaults_and_given_trainer_keys(tmp_path: Path) -> None:
    args = trainer_arguments(config_of(tmp_path, {"loss_type": "ipo", "beta": 0.2}), tmp_path / "dpo")
    assert (args.max_length, args.seed, args.report_to, args.beta, args.loss_type) == (None, 3, [], 0.2, ["ipo"])
    assert (args.remove_unused_columns, args.disable_dropout, args.output_dir) == (False, True, str(tmp_path / "dpo"))
    lora = config_of(tmp_path, method="lora", lora={"dropout": 0.05})
    assert trainer_arguments(lora, tmp_path).disable_dropout is False


def no_pairs(path: Path, config: Config) -> None:
    pass


def good_pairs(path: Path, config: Config) -> None:
    write_pairs(path, config, varied_pairs(3))


def no_train_pairs(path: Path, config: Config) -> None:
    write_pairs(path, config, varied_pairs(3, split="test"))


@pytest.mark.parametrize(
    "prepare, change, kind, message",
    [
        (no_pairs, {}, InputError, "pairs.parquet is missing; first run `make feedback"),
        (no_train_pairs, {}, InputError, "has no pairs of split 'train'; make a run with more prompts"),
        (
            good_pairs,
            {"trainer": {"eval_strategy": "epoch"}},
            InputError,
            r"no pairs of split 'validation'; in a new run, set generation.splits=\[train,validation\] and data.valid",
        ),
        (no_pairs, {"freeze": ["vision", "resampler", "llm"]}, ConfigError, "dpo.freeze names every part"),
        (
            good_pairs,
            {"max_answer_tokens": 1, "trainer": {"max_length": 30}},
            InputError,
            "none of the 3 pairs of split 'train' is usable: prompt_too_long: .* dpo.trainer.max_length is 30",
        ),
        (
            no_pairs,
            {"method": "lora", "lora": {"target_modules": ["q_proj", "fc1"]}},
            ConfigError,
            "target_modules is .*'fc1'.*; choose from down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj",
        ),
    ],
)
def test_bad_input_is_a_one_line_error(
    tiny_model: Path,
    tmp_path: Path,
    prepare: Callable[[Path, Config], None],
    change: dict[str, Any],
    kind: type[ValueError],
    message: str,
) -> None:
    config = config_of(tiny_model, **change)
    prepare(tmp_path / "run", config)
    with pytest.raises(kind, match=message) as caught:
        run_dpo(Run(tmp_path / "run", config, "dpo"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "policy").exists()


def test_a_model_of_another_type_is_refused_before_the_run_is_bound_to_it(tiny_model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_model, tmp_path / "other")
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**settings, "model_type": "llama"}))
    with pytest.raises(ModelError, match="has model type 'llama'; expected an image-text model of transformers"):
        run_dpo(Run(tmp_path / "run", config_of(other), "dpo"))
    assert not (tmp_path / "run").exists()


def test_answers_that_are_cut_within_a_response_are_trained_without_an_end(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = []

    def load(section: ModelSection, dpo: DpoSection, max_length: int | None, answers_are_cut: bool) -> None:
        cut.append(answers_are_cut)
        raise InputError("enough")

    monkeypatch.setattr("dpo.policy.load_collator", load)
    for rule in ("responses", "first_difference"):
        section = FeedbackSection.model_validate({"pairs": rule})
        config = config_of(tiny_model).model_copy(update={"feedback": section})
        good_pairs(tmp_path / rule, config)
        other = config_of(tiny_model)  # what decides is how the pairs were made
        with pytest.raises(InputError, match="enough"):
            run_dpo(Run(tmp_path / rule, other, "dpo"))
    assert cut == [False, True]


def test_other_models_cannot_be_trained_without_an_end(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section, dpo = config_of(tiny_model).policy, config_of(tiny_model).dpo
    assert load_collator(section, dpo, None, answers_are_cut=True).end_token is False  # type: ignore[attr-defined]
    monkeypatch.setattr("dpo.policy.AutoProcessor.from_pretrained", lambda *_, **__: object())
    with pytest.raises(ConfigError, match=r"first_difference, which works with MiniCPM-V only, but .* is an"):
        load_collator(section, dpo, None, answers_are_cut=True)


def test_a_truncated_checkpoint_is_a_one_line_error(tiny_model: Path, tmp_path: Path) -> None:
    cut = Path(shutil.copytree(tiny_model, tmp_path / "cut"))
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    config = config_of(cut)
    good_pairs(tmp_path / "run", config)
    with pytest.raises(ModelError, match="a weights file is damaged or truncated"):
        run_dpo(Run(tmp_path / "run", config, "dpo"))
    assert not (tmp_path / "run" / "policy").exists()


def test_command_line_reports_an_unknown_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("policy: {model: a}\nlabeler: {model: b}\ndpo: {freeze: [eyes]}\n")
    assert main(["--config", str(file), "--run", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "'vision', 'resampler' or 'llm'" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_placeholder_of_images_is_found_by_its_name(tmp_path: Path) -> None:
    """Released configurations do not have its id, which differs between versions."""
    save_tiny_model(tmp_path, version="2.6")
    values = json.loads((tmp_path / "config.json").read_text())
    expected = values.pop("image_token_id")
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert load_policy(ModelSection(model=str(tmp_path)), trains=True).config.image_token_id == expected != 128002
