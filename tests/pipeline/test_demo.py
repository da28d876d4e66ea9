"""The demo on little data, as a user runs it: each stage in its own process, shipped models, real vLLM and TRL."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from evaluation.audit.store import Audit
from rlaif.config.load import load_config
from rlaif.pipelines.best_of_n import best_of_n
from rlaif.storage.run import Run
from tests.support import ROOT
from tests.support.engines import run_stages_here
from tests.support.runs.audited import answers_by_truth

pytestmark = pytest.mark.engine


SMALL = [
    "data.train_prompts=24",
    "data.test_prompts=12",
    "generation.num_responses=6",
    "dpo.trainer.num_train_epochs=1",
    "dpo.trainer.logging_steps=1",
]


def stage(module: str, run: Path, *changes: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        module,
        "--config",
        "configs/demo.yaml",
        "--run",
        str(run),
        "--set",
        *SMALL,
        *changes,
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    for module in ("generation", "feedback", "dpo", "evaluation", "rlaif.report"):
        done = stage(module, folder)
        assert done.returncode == 0, f"{module}\n{done.stdout}\n{done.stderr}"
    return folder


def test_every_table_is_there_and_reads_in_pandas(run: Path) -> None:
    rows = {
        name: len(pd.read_parquet(run / f"{name}.parquet")) for name in ("prompts", "responses", "claims", "scores")
    }
    assert rows["prompts"] == 36 and rows["responses"] == 24 * 6
    assert rows["claims"] > rows["scores"] > 100
    assert (run / "report.html").stat().st_size > 10_000


def test_pairs_follow_from_claims(run: Path) -> None:
    pairs = pd.read_parquet(run / "pairs.parquet")
    assert len(pairs) > 5
    assert (pairs.chosen_score - pairs.rejected_score >= 0.9).all()  # feedback.min_margin of the demo
    for _, pair in pairs.iterrows():
        for score, claims in ((pair.chosen_score, pair.chosen_claims), (pair.rejected_score, pair.rejected_claims)):
            verified = [claim for claim in claims if claim["outcome"] != "unknown"]
            doubts = [claim["p_no"] / (claim["p_yes"] + claim["p_no"]) for claim in verified]
            assert score == pytest.approx(-sum(doubts), abs=1e-5)
            assert all(claim["verdict"] == (claim["p_yes"] > claim["p_no"]) for claim in verified)
        assert pair.prompt[0]["role"] == "user" and pair.chosen[0]["content"] != pair.rejected[0]["content"]


def test_metrics(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    for side in ("before", "after"):
        assert set(metrics[side]) >= {"mention_rate", "response_rate", "recall", "mean_words", "responses"}
        assert metrics[side]["responses"] == 12
    assert metrics["before"]["recall"] > 0.5
    # the samples are small: this checks that the shipped labeler works, not how well
    assert metrics["labeler"]["split_accuracy"] > 0.8 and metrics["labeler"]["claim_accuracy"] > 0.8
    assert metrics["dpo"]["first_sigmoid_loss"] == pytest.approx(0.6931, abs=1e-3)
    assert set(metrics["stages"]) >= {"generation", "feedback", "dpo", "evaluate"}
    assert metrics["versions"] and metrics["seeds"]["seed"] == 0


def test_people_who_know_the_truth_agree_with_the_figures_of_the_labeler(run: Path) -> None:
    """An audit after the evaluation: counted without a model; then the same labeler verifies the claims once more."""
    audit = Audit.open(run, 60)
    for kind, item, answer in answers_by_truth(audit, Run(run, load_config("configs/demo.yaml"), "test"), "Ann"):
        audit.record(kind, item, answer, "Ann", 1.0)
    done = stage("evaluation", run)
    assert done.returncode == 0 and "nothing to do" in done.stdout and "pairs_judged" in done.stdout
    metrics = json.loads((run / "metrics.json").read_text())
    low, high = metrics["intervals"]["people"]["agreement"]
    assert low <= metrics["labeler"]["claim_accuracy"] <= high

    command = [sys.executable, "-m", "evaluation.audit.export", "--run", str(run)]
    assert subprocess.run(command, cwd=ROOT).returncode == 0
    command = [
        sys.executable,
        "-m",
        "evaluation.audit.read_back",
        "--audits",
        str(run),
        "--config",
        "configs/demo.yaml",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = {line[:28].strip(): line[28:].split() for line in done.stdout.splitlines()}
    assert table["labeler"] == ["assets/labeler"] * 2 and table["without a verdict"] == ["0", "0"]
    assert sum(map(int, table["right where the two differ"])) <= 1  # other batches, other last digits
    assert float(table["agreement with people"][0].rstrip("%")) == pytest.approx(
        100 * metrics["people"]["agreement"], abs=0.06
    )


def test_only_evaluation_reads_the_reference() -> None:
    """generation and an import write the column, the latter without a truth, and the schemas list it."""
    users = {
        str(path.relative_to(ROOT))
        for package in ("generation", "feedback", "dpo", "rlaif")
        for path in (ROOT / package).rglob("*.py")
        if '"reference"' in path.read_text() or "'reference'" in path.read_text()
    }
    assert users == {"generation/prompts.py", "rlaif/interchange/importer/prompts.py", "rlaif/storage/schemas.py"}


def test_another_configuration_is_refused_without_overwriting_anything(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.glob("*.parquet")}
    refused = stage("generation", run, "generation.temperature=0.5")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ") and "temperature: 1.0 -> 0.5" in refused.stderr
    assert {path: path.read_bytes() for path in run.glob("*.parquet")} == before


def test_a_finished_stage_is_not_repeated(run: Path) -> None:
    before = (run / "responses.parquet").stat().st_mtime_ns
    assert stage("generation", run).returncode == 0
    assert (run / "responses.parquet").stat().st_mtime_ns == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("shared_engines")
def test_best_of_n_selects_among_answers_of_the_aligned_policy(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlaif.pipelines.best_of_n.run_stages", run_stages_here)
    best_of_n(load_config("configs/demo.yaml", [*SMALL, "best_of=3"]), run)
    figures = json.loads((run / "best-of-n" / "metrics.json").read_text())["best_of_n"]
    assert figures["reward"].keys() == {"1", "2", "3"}
    assert figures["reward"]["1"] == figures["score"]["1"]  # a single candidate
    assert figures["score"]["3"]["responses"] == 12
    rewards = pd.read_parquet(run / "best-of-n" / "rewards.parquet")
    assert len(rewards) == 36 and rewards.reward.std() > 0
