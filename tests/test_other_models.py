"""Image-text models of other families as policy and labeler: served by vLLM, aligned by TRL, served again."""

import json
import math
from contextlib import closing
from pathlib import Path

import pytest
import torch

from dpo.__main__ import run_dpo
from rlaif.config import EngineSection, ModelSection
from rlaif.engine import Engine, Request, open_engine
from rlaif.errors import ConfigError
from rlaif.run import Run
from tests.other_models import OTHER_MODELS
from tests.pair_rows import png
from tests.test_dpo import align, config_of, kill_at_step, moved, weights

# vLLM runs in this process and its libraries warn about themselves.
pytestmark = pytest.mark.filterwarnings("ignore")

COLORS = [(200, 30, 30), (30, 30, 200)]


@pytest.fixture(scope="module", params=OTHER_MODELS)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, called as its family."""
    if OTHER_MODELS[request.param].needs_torchvision:
        pytest.importorskip("torchvision")
    folder = tmp_path_factory.mktemp("other") / request.param
    OTHER_MODELS[request.param].save(folder)
    return folder


def serve(folder: Path, family: str) -> Engine:
    needs = OTHER_MODELS[family]
    section = EngineSection(max_model_len=512, max_num_seqs=16, **needs.engine)
    return open_engine(ModelSection.model_validate({"model": str(folder), "dtype": needs.dtype}), section, seed=0)


def test_it_answers_and_judges_what_it_sees(other: Path) -> None:
    question, image = "is there a red circle?", png((80, 60), COLORS[0])
    with closing(serve(other, other.name)) as engine:
        ids = engine.spellings("yes") + engine.spellings("no")
        samples, *judged = engine.generate(
            [
                Request(question, image, n=3, seed=1, temperature=1.0, max_tokens=6),
                *[Request(question, picture, max_tokens=1, logprob_token_ids=ids) for picture in (image, None)],
                Request(question, png((80, 60), COLORS[1]), max_tokens=1, logprob_token_ids=ids),
            ],
            "other",
        )
    assert len({completion.text for completion in samples}) == 3
    first, blind, second = (completion.logprobs for (completion,) in judged)
    assert first is not None and set(first) == set(ids)
    assert first != blind and first != second


@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_is_aligned_and_served_again(other: Path, tmp_path: Path, method: str) -> None:
    config = config_of(other, method=method, lora={"r": 4, "alpha": 8})
    align(tmp_path / "run", config)
    log = json.loads((tmp_path / "run" / "dpo" / "log.json").read_text())
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert log[-2]["loss"] < log[0]["loss"]
    policy = tmp_path / "run" / "policy"
    trained = moved(other, policy)
    assert trained and not any("vision" in name for name in trained)
    start, end = (json.loads((folder / "config.json").read_text()) for folder in (other, policy))
    assert start == end
    with closing(serve(policy, other.name)) as engine:
        ((answer,),) = engine.generate([Request("is there a star?", png((40, 90)), max_tokens=3)], "served again")
    assert answer.num_tokens


def test_a_killed_alignment_goes_on_where_it_was(other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(other, {"save_steps": 1, "learning_rate": 1e-3})
    undisturbed = align(tmp_path / "undisturbed", config)
    with monkeypatch.context() as patch:
        kill_at_step(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            align(tmp_path / "killed", config)
    run_dpo(Run(tmp_path / "killed", config, "dpo"))
    expected, resumed = (weights(run / "policy") for run in (undisturbed, tmp_path / "killed"))
    for name in expected:
        torch.testing.assert_close(resumed[name], expected[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "change, name",
    [
        ({"max_answer_tokens": 8}, "dpo.max_answer_tokens"),
        ({"trainer": {"max_length": 64}}, "dpo.trainer.max_length"),
        ({"method": "lora", "lora": {"train_resampler": True}}, "dpo.lora.train_resampler"),
    ],
)
def test_settings_that_only_minicpm_v_has_are_refused(
    other: Path, tmp_path: Path, change: dict[str, object], name: str
) -> None:
    with pytest.raises(ConfigError, match=f"{name} works with MiniCPM-V only"):
        run_dpo(Run(tmp_path / "run", config_of(other, **change), "dpo"))
    assert not (tmp_path / "run").exists()
