"""Feedback with a splitter: one model divides, the labeler verifies, and the tables equal those of a single model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import feedback.stage as stage
from rlaif.config import ModelSection
from rlaif.config.load import load_config
from rlaif.errors import RunMismatchError
from rlaif.inference.engine import Request
from tests.support.doubles import ScriptedEngine
from tests.support.two_images import labeler, png, response_id, rows, run_stage, write_inputs, write_model


def split_and_verify(
    config_file: Path, path: Path, monkeypatch: pytest.MonkeyPatch, kill: Callable[[Request], bool] = lambda _: False
) -> dict[str, ScriptedEngine]:
    """Run the stage with a separate splitter. Returns the opened engines by the name of their model."""
    splitter = write_model(config_file.parent / "splitter", b"other weights")
    opened: dict[str, ScriptedEngine] = {}

    def answer(request: Request) -> Any:
        if kill(request):
            raise KeyboardInterrupt
        return labeler(request)

    def open_engine(model: ModelSection, *_: Any) -> ScriptedEngine:
        assert all(engine.closed for engine in opened.values()), "only one model at a time may use the GPU"
        opened[Path(model.model).name] = ScriptedEngine(answer)
        return opened[Path(model.model).name]

    monkeypatch.setattr(stage, "PROMPTS_PER_CHUNK", 1)
    stage.feedback(load_config(config_file, [f"splitter.model={splitter}"]), path, open_engine)
    return opened


def test_a_splitter_divides_and_the_labeler_verifies(
    config_file: Path, run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stage(config_file, run_path)
    path = tmp_path / "again"
    write_inputs(load_config(config_file), path)
    opened = split_and_verify(config_file, path, monkeypatch)
    assert list(opened) == ["splitter", "labeler"]
    assert all(request.image is None for request in opened["splitter"].requests)
    assert all(request.json_schema is None for request in opened["labeler"].requests)
    for table in ("claims", "scores", "pairs"):
        assert rows(path, table) == rows(run_path, table)
    dropped = [sorted((row["row_id"], row["reason"]) for row in rows(folder, "dropped")) for folder in (run_path, path)]
    assert dropped[0] == dropped[1]
    splits = {row["response_id"]: row for row in rows(path, "splits")}
    assert splits.keys() == {row["response_id"] for row in rows(path, "scores")}
    assert splits[response_id("blue", 1)]["claims"] == [
        {"claim": "There is a blue square.", "question": "Is there a blue square?", "outcome": "asked", "reason": ""}
    ]
    cost = json.loads((path / "metrics.json").read_text())["labeling"]
    requests = [request for engine in opened.values() for request in engine.requests]
    assert cost["claims"] == 6 and cost["prompt_tokens"] == sum(len(request.text.split()) for request in requests)
    with pytest.raises(RunMismatchError, match=r"splitter\.model: .* -> absent"):
        run_stage(config_file, path)


@pytest.mark.parametrize("step", ["splits", "verdicts"])
def test_a_killed_stage_with_a_splitter_resumes_with_the_remaining_prompts(
    step: str, config_file: Path, run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_and_verify(config_file, run_path, monkeypatch)
    path = tmp_path / "again"
    write_inputs(load_config(config_file), path)

    def kill(request: Request) -> bool:
        return request.image == png("blue") if step == "verdicts" else request.text.count("There is a blue square") == 2

    with pytest.raises(KeyboardInterrupt):
        split_and_verify(config_file, path, monkeypatch, kill)
    opened = split_and_verify(config_file, path, monkeypatch)
    assert list(opened) == (["labeler"] if step == "verdicts" else ["splitter", "labeler"])
    if step == "splits":
        assert len(opened["splitter"].requests) == 2  # both responses to blue, of the killed chunk
    else:
        assert {request.image for request in opened["labeler"].requests} == {png("blue")}
    for table in ("splits", "claims", "scores", "pairs"):
        assert rows(path, table) == rows(run_path, table)
