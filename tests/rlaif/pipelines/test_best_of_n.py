"""Best of N: rewards against log-probabilities by hand, and what is taken. The command itself: see test_demo."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo.policy import load_collator, load_policy
from dpo.rewards import log_probs, rewards
from evaluation.selection import measure_selection, sample_sizes, select
from rlaif.config import Config, ModelSection
from rlaif.errors import ConfigError, InputError
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from rlaif.storage.writer import TableWriter
from scenes.source import scene_rows
from tests.support.pair_rows import png
from tests.support.tiny import save_tiny_model


@pytest.fixture
def models(tiny_model: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two random models of the same kind."""
    save_tiny_model(tmp_path / "other", seed=5)
    return tiny_model, tmp_path / "other"


def config_of(models: tuple[Path, Path]) -> Config:
    policy, reference = ({"model": str(model), "dtype": "float32"} for model in models)
    return Config.model_validate(
        {
            "policy": policy,
            "labeler": policy,
            "reference_policy": reference,
            "generation": {"splits": ["test"]},
            "dpo": {"trainer": {"beta": 0.5}},
            "best_of": 3,
        }
    )


ANSWERS = ("a red circle", "a blue star left", "the picture")


def test_log_probs_are_those_of_each_answer_alone(models: tuple[Path, Path]) -> None:
    config = config_of(models)
    assert config.reference_policy is not None
    policy, reference = (
        load_policy(section, trains=False).eval() for section in (config.policy, config.reference_policy)
    )
    collator = load_collator(config.policy, config.dpo, None)
    prompt = [{"role": "user", "content": "what is in this picture"}]
    images = [{"bytes": png((150, 60)), "path": None}]
    rows = [
        {"images": images, "prompt": prompt, "answer": [{"role": "assistant", "content": text}]} for text in ANSWERS
    ]
    lengths, policy_log_probs, reference_log_probs = log_probs(policy, reference, collator, rows)
    for index, row in enumerate(rows):
        batch: dict[str, Any] = collator([{**row, "chosen": row["answer"], "rejected": row["answer"]}])
        ids, mask = batch["input_ids"][0], batch.pop("completion_mask")[0]
        positions = mask.nonzero().flatten().tolist()
        assert lengths[index] == len(positions)
        for model, result in ((policy, policy_log_probs), (reference, reference_log_probs)):
            with torch.no_grad():
                distribution = model(**batch).logits[0].log_softmax(-1)
            by_hand = sum(distribution[at - 1, ids[at]].item() for at in positions)
            assert result[index].item() == pytest.approx(by_hand, abs=1e-3)


def write_run(path: Path, config: Config) -> None:
    """Two scenes, three responses each, one of them cut."""
    run = Run(path, config, "generation")
    assert run.begin(["prompts", "responses"], {}, inputs=[])
    scenes = list(scene_rows("test", 2, seed=0))
    with TableWriter(run, "prompts", key="prompt_id") as writer:
        for number, scene in enumerate(scenes):
            writer.write(
                [
                    {
                        "prompt_id": f"p{number}",
                        "image": {"bytes": scene.png, "path": None},
                        "image_sha256": f"{number}",
                        "instruction": scene.instruction,
                        "source": "scenes",
                        "split": "test",
                        "reference": json.dumps(scene.reference),
                    }
                ]
            )
    with TableWriter(run, "responses", key="prompt_id") as writer:
        for number in range(len(scenes)):
            writer.write(
                {
                    "response_id": f"p{number}-{index}",
                    "prompt_id": f"p{number}",
                    "sample_index": index,
                    "seed": 0,
                    "text": text,
                    "finish_reason": "length" if index == 1 and number == 0 else "stop",
                    "num_tokens": 3,
                    "temperature": 1.0,
                    "top_p": 1.0,
                    "policy": "p",
                    "policy_revision": "0",
                    "round": 1,
                }
                for index, text in enumerate(ANSWERS)
            )
    run.finish({}, None)


def test_the_reward_is_beta_times_the_log_ratio_for_each_token(models: tuple[Path, Path], tmp_path: Path) -> None:
    config = config_of(models)
    write_run(tmp_path / "run", config)
    rewards(config, tmp_path / "run")
    rows = list(read_rows(Run(tmp_path / "run", config, "test"), "rewards"))
    assert [row["response_id"] for row in rows] == ["p0-0", "p0-2", "p1-0", "p1-1", "p1-2"]
    for row in rows:
        by_hand = 0.5 / row["num_tokens"] * (row["log_prob"] - row["reference_log_prob"])
        assert row["reward"] == pytest.approx(by_hand) and row["reward"] != 0
    (dropped,) = [row for row in read_rows(Run(tmp_path / "run", config, "test"), "dropped")]
    assert (dropped["row_id"], dropped["reason"]) == ("p0-1", "response_truncated")


def test_a_model_is_worth_nothing_beside_itself(tiny_model: Path, tmp_path: Path) -> None:
    config = config_of((tiny_model, tiny_model))
    write_run(tmp_path / "run", config)
    rewards(config, tmp_path / "run")
    assert {row["reward"] for row in read_rows(Run(tmp_path / "run", config, "test"), "rewards")} == {0.0}


def test_both_models_are_opened_at_the_commit_that_is_recorded(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789" * 4
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: f"/cache/snapshots/{commit}")
    section = ModelSection(model="owner/name")
    config = config_of(models).model_copy(update={"policy": section, "reference_policy": section})
    write_run(tmp_path / "run", config)
    opened: list[ModelSection] = []

    class Model:
        def eval(self) -> "Model":
            return self

        def to(self, device: str) -> "Model":
            return self

    def load_model(section: ModelSection, trains: bool) -> Model:
        opened.append(section)
        if len(opened) == 2:
            raise KeyboardInterrupt
        return Model()

    monkeypatch.setattr("dpo.policy.load_policy", load_model)
    with pytest.raises(KeyboardInterrupt):
        rewards(config, tmp_path / "run")
    assert [model.revision for model in opened] == [commit, commit]
    settings = json.loads((tmp_path / "run" / "rewards.json").read_text())["settings"]
    assert settings["policy"]["revision"] == settings["reference_policy"]["revision"] == commit


def test_the_first_of_the_best_is_taken() -> None:
    assert sample_sizes(16) == [1, 2, 4, 8, 16] and sample_sizes(2) == [1, 2]
    assert sample_sizes(12) == [1, 2, 4, 8, 12]
    rows = [{"response_id": name} for name in "abcd"]
    assert select(rows, {"b": 1.0, "c": 2.0, "d": 2.0})["response_id"] == "c"
    assert select(rows, {"b": -5.0})["response_id"] == "b"  # the others have no worth
    assert select(rows, {})["response_id"] == "a"


def test_bad_input(models: tuple[Path, Path], tmp_path: Path) -> None:
    config = config_of(models).model_copy(update={"reference_policy": None})
    with pytest.raises(ConfigError, match="reference_policy is not set; set it to the model"):
        rewards(config, tmp_path / "run")
    config = config_of(models)
    write_run(tmp_path / "run", config)
    with pytest.raises(InputError, match=r"rewards\.parquet is missing; first run `make best-of-n"):
        measure_selection(config, tmp_path / "run")
