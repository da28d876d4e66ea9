"""A labeler that cannot do its work stops the stage before anything is written; with the setting changed it resumes."""

import gc
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import feedback.stage as stage
from rlaif.config import Config, EngineSection, ModelSection
from rlaif.errors import ModelError
from rlaif.inference.engine import Request
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from scenes.language import find_mentions
from tests.support.doubles import Answer, ScriptedEngine
from tests.support.synthetic_run import model_folder, write_prompts

WORDS: dict[str, tuple[int, ...]] = {"yes": (1,), "no": (2,), "\u662f": (3,), "\u5426": (4,)}
CONFIG = Config.model_validate({"policy": {"model": "x"}, "labeler": {"model": "x"}})
CHINESE = {"yes": ["\u662f"], "no": ["\u5426"]}


def split(request: Request) -> str:
    mentions = dict.fromkeys(find_mentions(request.text.rpartition("Answer: ")[2]))
    claims = [{"claim": mention.claim, "question": mention.question} for mention in mentions]
    return json.dumps({"claims": claims})


def labeler(request: Request) -> Answer:
    """Answers in Chinese."""
    if request.json_schema is not None:
        return [split(request)]
    if not request.first_words:
        return ["\u662f\u7684"]
    chances = {1: 1e-4, 2: 2e-4, 3: 0.8, 4: 0.1}
    return {token: math.log(chances[token]) for word in request.first_words for token in WORDS[word]}


def talker(request: Request) -> Answer:
    """Ignores the schema."""
    return ["Here are the claims:"] if request.json_schema is not None else labeler(request)


def run_stage(folder: Path, answer: Callable[[Request], Answer], **settings: Any) -> tuple[Path, list[str]]:
    models = folder / "models"
    if not models.exists():
        for name in ("policy", "labeler", "splitter"):
            model_folder(models / name, name)
    config = Config.model_validate(
        {"policy": {"model": str(models / "policy")}, "labeler": {"model": str(models / "labeler")}, **settings}
    )
    path = folder / "run"
    if not path.exists():
        write_prompts(Run(path, config, "generation"), truth=True)
    opened: list[str] = []

    def open_engine(model: ModelSection, engine_section: EngineSection, seed: int) -> ScriptedEngine:
        opened.append(Path(model.model).name)
        return ScriptedEngine(answer, WORDS)

    stage.feedback(config, path, open_engine)
    return path, opened


def test_a_labeler_that_answers_in_another_language(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"puts 0\.0% .* answers begin '\u662f\u7684'; set .* feedback\.answers"):
        run_stage(tmp_path, labeler)
    assert not list((tmp_path / "run").rglob("part-*.parquet")), "nothing was written"
    path, _ = run_stage(tmp_path, labeler, feedback={"answers": CHINESE})
    claims = list(read_rows(Run(path, CONFIG, "test"), "claims"))
    assert len(claims) > 400
    assert all(row["verdict"] and row["p_yes"] == pytest.approx(0.8) for row in claims)


def test_a_labeler_that_does_not_write_claims(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="they begin 'Here are the claims:'; the server ignores response_format"):
        run_stage(tmp_path, talker, feedback={"answers": CHINESE})
    assert not list((tmp_path / "run").rglob("part-*.parquet"))
    run_stage(tmp_path, labeler, feedback={"answers": CHINESE, "max_retries": 1})


def test_the_limit_of_0_goes_on(tmp_path: Path) -> None:
    path, _ = run_stage(tmp_path, labeler, feedback={"min_yes_no_mass": 0})
    assert all(row["p_other"] > 0.99 for row in read_rows(Run(path, CONFIG, "test"), "claims"))


def test_a_labeler_that_cannot_judge_is_found_before_a_splitter_divides(tmp_path: Path) -> None:
    splitter = {"model": str(tmp_path / "models" / "splitter")}
    requests: list[Request] = []

    def answer(request: Request) -> Answer:
        requests.append(request)
        return labeler(request)

    with pytest.raises(ModelError, match=r"puts 0\.0% .* set labeler\."):
        run_stage(tmp_path, answer, splitter=splitter)
    assert not any(request.json_schema for request in requests), "nothing was divided yet"
    _, opened = run_stage(tmp_path, answer, splitter=splitter, feedback={"answers": CHINESE})
    assert opened == ["labeler", "splitter", "labeler"]


def test_a_resumed_stage_does_not_stop_at_odd_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The labeler could judge when the first rows were written; more questions like these are weak verdicts."""
    monkeypatch.setattr(stage, "PROMPTS_PER_CHUNK", 12)
    asked = 0

    def turns_silent(request: Request) -> Answer:
        nonlocal asked
        asked += bool(request.first_words)
        answer = labeler(request)
        return {token: -20.0 for token in answer} if asked > 300 and isinstance(answer, dict) else answer

    def is_killed(request: Request) -> Answer:
        if asked >= 150:
            raise KeyboardInterrupt
        return turns_silent(request)

    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path, is_killed, feedback={"answers": CHINESE})
    gc.collect()  # now: if what the kill left is collected during another test's `ast.parse`, CPython 3.11 fails there
    assert list((tmp_path / "run" / "scores.parts").glob("part-*.parquet"))
    asked = 1000
    run_stage(tmp_path, turns_silent, feedback={"answers": CHINESE})
