"""Rounds: which policy is chosen and by which figures, and two real rounds of the shipped models."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dpo.average import average
from rlaif.config import Config
from rlaif.config.load import load_config
from rlaif.errors import ConfigError, ModelError, RlaifError
from rlaif.pipelines.rounds import Candidate, choose, rounds, table
from rlaif.pipelines.stages import STAGES
from rlaif.report.page import chart_files, report
from tests.support import ROOT
from tests.support.engines import run_stages_here

CONFIG = ROOT / "configs" / "rounds.yaml"


def figures(rejected_share: float | None, mean_claims: float | None = 4.0) -> dict[str, float | None]:
    return {"mention_rate": 0.25, "rejected_share": rejected_share, "mean_claims": mean_claims}


@pytest.mark.parametrize(
    ("policies", "chosen"),
    [
        ([figures(0.3), figures(0.2), figures(0.1)], 2),
        ([figures(0.3), figures(0.1), figures(0.1)], 1),  # the earliest of several equal ones
        ([figures(0.3), figures(0.2), figures(0.0, 2.5)], 1),  # 2.5 accepted claims are fewer than 0.9 * 0.7 * 4
        ([figures(0.3), figures(0.1, 2.9)], 1),  # fewer claims, but more that are accepted than 0.9 * 0.7 * 4
        ([figures(0.1), figures(0.2)], 0),
        ([figures(0.1), figures(None, None)], 0),  # no answer could be divided
    ],
)
def test_the_policy_with_the_smallest_rejected_share_and_enough_claims_is_chosen(
    policies: list[dict[str, Any]], chosen: int
) -> None:
    assert choose(policies) == chosen
    candidates = [Candidate(f"policy {number}", number, "", one, {}) for number, one in enumerate(policies)]
    assert table(candidates, chosen).endswith(f"chosen: policy {chosen}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.validation_prompts=0", "data.validation_prompts is 0"),
        ("data.test_prompts=0", "data.test_prompts is 0"),
        ("evaluation.split=test", "evaluation.split is 'test' and evaluation.labeler true, but rounds are chosen by"),
        (
            "dpo.trainer.load_best_model_at_end=false",
            r"load_best_model_at_end=true and `validation` in gen",
        ),
        ("generation.splits=[train]", r"load_best_model_at_end=true and `validation` in gen"),
        ("evaluation.labeler=false", "evaluation.split is 'validation' and evaluation.labeler false, but rounds are"),
    ],
)
def test_settings_that_rounds_are_chosen_by_are_required(change: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        rounds(load_config(CONFIG, [change]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_source_without_splits_needs_shares(tmp_path: Path) -> None:
    source = ["data={source: folder, path: photos}"]
    with pytest.raises(ConfigError, match=r"data\.validation_share is 0"):
        rounds(load_config(CONFIG, source), tmp_path / "run")


class Stages:
    """Double of `run_stages`: the policies of the rounds, and their average, have the figures that a test sets."""

    def __init__(self, policies: list[dict[str, Any]], average: dict[str, Any] | None = None) -> None:
        self.policies, self.average = policies, average
        self.calls: list[tuple[Sequence[str], Config, Path]] = []

    def __call__(self, stages: Sequence[str], config: Config, folder: Path) -> None:
        self.calls.append((stages, config, folder))
        (folder / "policy").mkdir(parents=True, exist_ok=True)
        (folder / "prompts.parquet").write_bytes(b"prompts")
        before, after = self.policies[config.round - 1 : config.round + 1]
        if stages[0] == "dpo.average":
            assert (folder / "prompts.parquet").read_bytes() == b"prompts"
            assert self.average is not None
            after = self.average
        metrics = {
            "before": before,
            "after": after,
            "intervals": {"before": {}, "after": {"rejected_share": [0.1, 0.3]}},
        }
        (folder / "metrics.json").write_text(json.dumps(metrics))


def test_each_round_starts_from_the_policy_of_the_round_before_and_the_test_split_is_used_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, path = load_config(CONFIG, ["rounds=3", "average_last=0"]), tmp_path / "run"
    stages = Stages([figures(0.3), figures(0.2), figures(0.1), figures(0.15)])
    rounds(config, path, stages)
    *calls, (last_stages, last, folder) = stages.calls
    rounds(config, path, stages)  # started again
    assert len(stages.calls) == 8
    assert [call[1].round for call in calls] == [1, 2, 3]
    assert [call[1].policy.model for call in calls] == [
        "assets/policy",
        *(str(path / f"round-{n}/policy") for n in (1, 2)),
    ]
    assert {(call[0], call[1].evaluation.split) for call in calls} == {(STAGES, "validation")}
    assert (last_stages, last.evaluation.split, folder) == (("evaluation", "rlaif.report"), "test", path)
    assert last.policy.model == "assets/policy"
    assert (path / "policy").resolve() == (path / "round-2" / "policy").resolve()
    assert json.loads((path / "rounds.json").read_text())["chosen"] == 2
    printed = capsys.readouterr().out
    assert printed.endswith("chosen: round 2\n") and f"{'30.0%':>20}{'20.0% [10.0, 30.0]':>20}" in printed


@pytest.mark.parametrize(("share", "chosen"), [(0.05, "average-2-3"), (0.15, "round-2")])
def test_the_average_of_the_last_rounds_can_be_chosen(tmp_path: Path, share: float, chosen: str) -> None:
    config, path = load_config(CONFIG, ["rounds=3", "average_last=2"]), tmp_path / "run"
    stages = Stages([figures(0.3), figures(0.2), figures(0.1), figures(0.15)], figures(share))
    rounds(config, path, stages)
    *_, (average_stages, validation, folder), (_, test, _) = stages.calls
    assert average_stages == ("dpo.average", "evaluation", "rlaif.report") and folder == path / "average-2-3"
    assert validation.evaluation.split == "validation" and test.evaluation.split == "test"
    assert (path / "policy").resolve() == (path / chosen / "policy").resolve()
    names = [candidate["name"] for candidate in json.loads((path / "rounds.json").read_text())["candidates"]]
    assert names == ["start", "round 1", "round 2", "round 3", "average of 2 to 3"]


def test_if_no_round_is_better_the_test_split_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = Stages([figures(0.1), figures(0.2), figures(0.3)], average=figures(0.15))
    rounds(load_config(CONFIG, ["rounds=2"]), tmp_path / "run", stages)
    assert len(stages.calls) == 3 and not (tmp_path / "run" / "policy").exists()
    assert "no round improved on the first policy on validation" in capsys.readouterr().out


@pytest.mark.engine
def test_a_stage_that_fails_stops_the_rounds(tmp_path: Path) -> None:
    config = load_config(CONFIG, ["policy.model=nowhere"])
    with pytest.raises(RlaifError, match=r"`-m generation --config .* failed with exit status 2; fix the error above"):
        rounds(config, tmp_path / "run")


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("shared_engines")
def test_real_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds of the shipped models. They are too small to improve for certain, so the choice, which has tests of
    its own, is fixed: the average of both.
    """
    changes = [
        "rounds=2",
        "data.train_prompts=16",
        "data.validation_prompts=12",
        "data.test_prompts=6",
        "generation.num_responses=4",
        "dpo.trainer.num_train_epochs=2",
        "dpo.trainer.logging_steps=1",
    ]
    monkeypatch.setattr("rlaif.pipelines.rounds.choose", lambda figures: len(figures) - 1)
    run = tmp_path / "run"
    rounds(load_config(CONFIG, changes), run, run_stages_here)
    log = json.loads((run / "round-1" / "dpo" / "log.json").read_text())
    assert any("eval_loss" in entry for entry in log)
    history = json.loads((run / "rounds.json").read_text())
    names = [candidate["name"] for candidate in history["candidates"]]
    assert names == ["start", "round 1", "round 2", "average of 1 to 2"]
    for candidate in history["candidates"]:
        assert candidate["figures"]["responses"] == 12 and candidate["figures"]["labeled_answers"] > 6
    first, second, mean = (
        load_file(run / folder / "policy" / "model.safetensors") for folder in ("round-1", "round-2", "average-1-2")
    )
    assert first.keys() == mean.keys()
    for name, tensor in mean.items():
        assert torch.equal(tensor, ((first[name].float() + second[name].float()) / 2).to(tensor.dtype)), name
    assert history["chosen"] == 3 and (run / "policy").resolve() == (run / "average-1-2" / "policy").resolve()
    evaluated = json.loads((run / "evaluate.json").read_text())["settings"]
    assert evaluated["evaluation"]["split"] == "test"
    page = (run / "report.html").read_text()
    assert all(f"{folder}/report.html" in page for folder in ("round-1", "round-2", "average-1-2"))
    assert "“average of 1 to 2” was chosen" in page


def test_the_page_shows_rounds(tmp_path: Path) -> None:
    config = Config.model_validate({"policy": {"model": "a"}, "labeler": {"model": "b"}})
    average = ("average of 1 to 2", None, figures(None, 1))
    policies = [("start", 0, figures(0.3)), ("round 1", 1, figures(0.1)), average]
    candidates: list[dict[str, Any]] = [
        {"name": name, "round": number, "folder": name.replace(" ", "-"), "figures": one, "intervals": {}}
        for name, number, one in policies
    ]
    candidates[0]["intervals"] = {"rejected_share": [0.25, 0.35]}
    history = {"chosen": 1, "candidates": candidates}
    (tmp_path / "rounds.json").write_text(json.dumps(history))
    page = report(config, tmp_path).read_text()
    assert "“round 1” was chosen" in page and "the labeler rejects" in page
    assert 'href="round-1/report.html"' in page and "30.0% <small>[25.0, 35.0]</small>" in page
    assert {file.stem for file in chart_files(config, tmp_path).iterdir()} == {
        "false-in-percent",
        "claims-in-an-answer",
    }


def test_an_average_needs_two_rounds_and_the_policy_of_each(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="average_last is 1 with 4 rounds; an average needs at least two"):
        average(load_config(CONFIG, ["average_last=1"]), tmp_path / "average-4-4")
    config = load_config(CONFIG, ["rounds=2"])
    with pytest.raises(ModelError, match=r"no model folder .*round-1/policy"):
        average(config, tmp_path / "average-1-2")
    assert not (tmp_path / "average-1-2").exists()
