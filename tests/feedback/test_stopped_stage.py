"""A labeler that cannot do its work stops the stage before anything is written; with the setting changed it resumes."""

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
from scenes.language import claim_of, find_mentions, question_of
from tests.support.doubles import Answer, ScriptedEngine
from tests.support.synthetic_run import model_folder, write_prompts

WORDS: dict[str, tuple[int, ...]] = {"yes": (1,), "no": (2,), "\u662f": (3,), "\u5426": (4,)}
CONFIG = Config.model_validate({"policy": {"model": "x"}, "labeler": {"model": "x"}})
CHINESE = {"yes": ["\u662f"], "no": ["\u5426"]}


def split(request: Request) -> str:
    mentions = dict.fromkeys(find_mentions(request.text))
    claims = [{"claim": claim_of(mention), "question": question_of(mention)} for mention in mentions]
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


def run_stage(folder: Path, answer: Callable[[Request], Answer], **settings: Any) -> tuple[Path, ScriptedEngine]:
    models = folder / "models"
    if not models.exists():
        for name in ("policy", "labeler"):
            model_folder(models / name, name)
    config = Config.model_validate(
        {"policy": {"model": str(models / "policy")}, "labeler": {"model": str(models / "labeler")}, **settings}
    )
    path = folder / "run"
    if not path.exists():
        write_prompts(Run(path, config, "generation"), truth=True)
    engine = ScriptedEngine(answer, WORDS)

    def open_engine(model: ModelSection, engine_section: EngineSection, seed: int) -> ScriptedEngine:
        return engine

    stage.feedback(config, path, open_engine)
    return path, engine


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
