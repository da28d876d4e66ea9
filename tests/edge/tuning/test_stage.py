"""A whole search: on doubles of the trials, and for real on a small model."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from edge.runtime.program import quantize
from edge.runtime.sample import SMALL, write_sample
from edge.settings import Settings, read_settings
from edge.tuning import stage
from edge.tuning.halving import Outcome
from edge.tuning.process import Work
from edge.tuning.stage import builds_here, tune
from rlaif.config import Config
from rlaif.config.load import load_config
from rlaif.errors import InputError, ModelError
from tests.support import ROOT


@pytest.fixture
def config() -> Config:
    changes = ["edge.tune.threads=[1,2]", "edge.tune.batches=[64]", "edge.tune.ubatches=[64,16]", "edge.tune.prompt=32"]
    changes += ["edge.tune.answer=4", "edge.tune.kv_types=[f16]", "edge.tune.repack=[true]", "edge.tune.builds=[host]"]
    return load_config(ROOT / "configs" / "demo.yaml", changes)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "edge").mkdir()
    (tmp_path / "edge" / "language-Q4_K_M.gguf").write_text("weights")
    return tmp_path


class Trials:
    """In place of processes: seconds by settings, with 1% noise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fastest: Settings | None, factor: float) -> None:
        self.fastest, self.factor, self.random = fastest, factor, random.Random(0)
        self.broken: set[Settings] = set()
        monkeypatch.setattr(stage, "run_trial", self.run)
        monkeypatch.setattr(stage, "builds_here", lambda: ["host"])
        monkeypatch.setattr(stage, "package_version", lambda: "1.2.3")

    def run(self, work: Work, settings: Settings, repeats: int, limit: float | None = None) -> Outcome:
        if settings in self.broken:
            return Outcome(error="it was ended by SIGILL")
        seconds = self.factor if settings == self.fastest else 1.0
        values = [seconds * (1 + self.random.gauss(0, 0.01)) for _ in range(repeats)]
        return Outcome(values, values)


def test_a_faster_configuration_is_found_and_written(
    config: Config, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fastest = Settings(2, 64, 16, "on", "f16", True, "host")
    trials = Trials(monkeypatch, fastest, 0.5)
    trials.broken = {Settings(1, 64, 16, "off", "f16", True, "host")}
    assert tune(config, run, "Q4_K_M") == fastest == read_settings(run / "edge")
    printed = capsys.readouterr().out
    assert "edge-tune: the default's time differs by " in printed
    assert "times as fast as the default with threads=2" in printed
    record: dict[str, Any] = json.loads((run / "edge" / "tuning.json").read_text())
    assert 1.9 < record["ratio"]["low"] < 2 < record["ratio"]["high"] < 2.1
    assert len(record["trials"]) == 8 and record["trials"][-1]["error"] == "it was ended by SIGILL"
    assert record["file"] == "language-Q4_K_M.gguf" and record["llama_cpp"] == "1.2.3"


def test_a_winner_by_chance_is_not_written(
    config: Config, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All configurations are equally fast; one of them comes first in any case."""
    Trials(monkeypatch, None, 1.0)
    assert tune(config, run, "Q4_K_M") == Settings() == read_settings(run / "edge")
    assert "edge-tune: no better than the default: " in capsys.readouterr().out


def test_a_missing_export_is_named(config: Config, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Trials(monkeypatch, None, 1.0)
    message = r"language-Q6_K\.gguf is missing, .* has Q4_K_M; run `make export-edge RUN=.* QUANT=Q6_K`"
    with pytest.raises(InputError, match=message):
        tune(config, run, "Q6_K")


def test_a_default_that_does_not_run_is_named(config: Config, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Trials(monkeypatch, None, 1.0).broken = {Settings()}
    with pytest.raises(ModelError, match="does not run with the default settings: it was ended by SIGILL; expected an"):
        tune(config, run, "Q4_K_M")
    assert not (run / "edge" / "settings.json").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("llama_cpp")
def test_a_search_of_real_trials(config: Config, tmp_path: Path) -> None:
    """On a model of random weights: every configuration runs, and what is written is read back."""
    (tmp_path / "edge").mkdir()
    write_sample(tmp_path / "f16.gguf", SMALL)
    quantize(tmp_path / "f16.gguf", tmp_path / "edge" / "language-Q4_K_M.gguf", "Q4_K_M")
    assert "host" in builds_here()
    chosen = tune(config, tmp_path, "Q4_K_M")
    assert chosen == read_settings(tmp_path / "edge")
    record = json.loads((tmp_path / "edge" / "tuning.json").read_text())
    assert [trial["error"] for trial in record["trials"]] == [None] * 8
    assert all(second > 0 for trial in record["trials"] for second in trial["seconds"])
