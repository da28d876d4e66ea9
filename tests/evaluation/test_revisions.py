"""Models on the hub are opened at the commit that the tables record."""

import json
from pathlib import Path

import pytest

from evaluation.benchmarks.stage import benchmark
from evaluation.stage import evaluate
from rlaif.config import Config, EngineSection, ModelSection
from rlaif.inference.engine import Request
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from tests.support.doubles import Answer, ScriptedEngine
from tests.support.synthetic_run import make_run

COMMIT = "0123456789" * 4
HUB = {"policy": ModelSection(model="owner/p"), "labeler": ModelSection(model="owner/l", revision="main")}


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every revision on the hub is at COMMIT."""
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: f"/cache/snapshots/{COMMIT}")


class Models:
    """Opens a scripted engine for any model, and keeps which were opened."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str | None]] = []

    def __call__(self, section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
        self.opened.append((section.model, section.revision))
        return ScriptedEngine(self.answer)

    def answer(self, request: Request) -> Answer:
        return [json.dumps({"explanation": "So.", "rating": 4})] * request.n


def test_benchmarks_and_the_rater(tmp_path: Path) -> None:
    config = Config.model_validate({**HUB, "benchmark": {"name": "mmhal", "scenes": 2}})
    models = Models()
    benchmark(config, tmp_path, models)
    assert models.opened == [("owner/p", COMMIT), ("owner/l", COMMIT)]
    run = Run(tmp_path / "benchmarks/mmhal/before", config, "test")
    assert {row["model_revision"] for row in read_rows(run, "answers")} == {COMMIT}
    assert {row["rater_revision"] for row in read_rows(run, "ratings")} == {COMMIT}


def test_evaluation(tmp_path: Path) -> None:
    config, path = make_run(tmp_path)
    models = Models()
    evaluate(config.model_copy(update=HUB), path, models)
    assert models.opened == [("owner/p", COMMIT), (str(path / "policy"), None)]
    settings = json.loads((path / "evaluate.json").read_text())["settings"]
    assert settings["policies"]["before"] == {"model": "owner/p", "revision": COMMIT, "dtype": "auto"}
    assert settings["policies"]["after"]["model"] == "policy"
