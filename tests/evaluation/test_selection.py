"""Best of N, selected by reward or by score: figures by hand."""

from pathlib import Path
from typing import Any

import pytest

from evaluation.selection import SELECTORS, measure_selection
from rlaif.config import Config
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter
from tests.support.captions.scene_truth import REFERENCE

TEXTS = ("Two red apples, a cat, a green couch, an owl.", "Two red apples.", "Nothing.")
REWARDS = {"p0": 0.1, "p1": 0.5}  # the third response was cut: it has neither
TOKENS = {"p0": 12, "p1": 2}  # not divided by them, the first has the higher reward
LOG_PROBS = {"p0": -3.0, "p1": -1.0}  # per token, too, the first is likelier
SCORES = {"p0": 0.0, "p1": -1.0}


def write_run(path: Path, config: Config) -> None:
    """One prompt with four objects, one of them a sign, and three responses."""
    run = Run(path, config, "generation")
    run.begin(["prompts", "responses", "rewards", "scores"], {}, inputs=[])
    prompt = {
        "prompt_id": "p",
        "image": {"bytes": b"png", "path": None},
        "image_sha256": "0",
        "instruction": "Describe.",
        "source": "scenes",
        "split": "test",
        "reference": REFERENCE,
    }
    responses: list[dict[str, Any]] = [
        {
            "response_id": f"p{index}",
            "prompt_id": "p",
            "sample_index": index,
            "seed": 0,
            "text": text,
            "finish_reason": "length" if index == 2 else "stop",
            "num_tokens": 3,
            "temperature": 1.0,
            "top_p": 1.0,
            "policy": "p",
            "policy_revision": "0",
            "round": 1,
        }
        for index, text in enumerate(TEXTS)
    ]
    rewards = [
        {
            "response_id": key,
            "prompt_id": "p",
            "num_tokens": TOKENS[key],
            "log_prob": LOG_PROBS[key],
            "reference_log_prob": -1.0,
            "reward": reward,
        }
        for key, reward in REWARDS.items()
    ]
    scores = [
        {
            "response_id": key,
            "prompt_id": "p",
            "num_claims": 1,
            "num_rejected": 0,
            "num_restated": 0,
            "num_unknown": 0,
            "score": score,
            "score_low": score,
            "score_high": score,
            "coverage": 1.0,
            "whole_response_score": 0.0,
        }
        for key, score in SCORES.items()
    ]
    for table, rows in {"prompts": [prompt], "responses": responses, "rewards": rewards, "scores": scores}.items():
        with TableWriter(run, table, key="prompt_id") as writer:
            writer.write(rows)
    run.finish({}, None)


def test_figures_by_selector_and_n(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}, "best_of": 3})
    write_run(tmp_path, config)
    capsys.readouterr()
    measure_selection(config, tmp_path)
    metrics = Run(tmp_path, config, "test").metrics()
    first = {"mention_rate": 1 / 3, "response_rate": 1.0, "recall": 2 / 4, "mean_words": 10.0, "responses": 1}
    second = {"mention_rate": 0.0, "response_rate": 0.0, "recall": 1 / 4, "mean_words": 3.0, "responses": 1}
    assert metrics["best_of_n"] == {
        "reward": {"1": first, "2": second, "3": second},  # the second has the higher reward
        "reward_sum": {"1": first, "2": first, "3": first},
        "likelihood": {"1": first, "2": first, "3": first},
        "score": {"1": first, "2": first, "3": first},  # the first has the higher score
    }
    assert metrics["intervals"]["best_of_n"]["reward"]["2"]["recall"] is None  # one prompt has no spread
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["best", "by", "reward", "N", "=", "1", "N", "=", "2", "N", "=", "3"]
    assert printed[1].split() == ["mention_rate", "33.3%", "0.0%", "0.0%"]


def test_what_each_selector_compares() -> None:
    row = {"reward": 0.2, "num_tokens": 5, "log_prob": -10.0, "score_low": -3.0}
    assert {name: value_of(row) for name, (_, value_of) in SELECTORS.items()} == {
        "reward": 0.2,
        "reward_sum": 1.0,
        "likelihood": -2.0,
        "score": -3.0,
    }
