"""Image-text models of other families as policy and labeler: served by vLLM, aligned by TRL, served again."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dpo.__main__ import run_dpo
from rlaif.config import EngineSection, ModelSection
from rlaif.engine import Request, open_engine
from rlaif.errors import ConfigError
from rlaif.run import Run
from tests.other_models import OTHER_MODELS, WITHOUT_TORCHVISION
from tests.pair_rows import png, varied_pairs, write_pairs
from tests.test_dpo import config_of

# vLLM runs in this process and its libraries warn about themselves.
pytestmark = pytest.mark.filterwarnings("ignore")

SECTION = EngineSection(max_model_len=512, max_num_seqs=16)
COLORS = [(200, 30, 30), (30, 30, 200)]


@pytest.fixture(scope="module", params=OTHER_MODELS)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param not in WITHOUT_TORCHVISION:
        pytest.importorskip("torchvision")
    folder = tmp_path_factory.mktemp("other") / request.param
    OTHER_MODELS[request.param](folder)
    return folder


def test_it_answers_and_judges_what_it_sees(other: Path) -> None:
    engine = open_engine(ModelSection(model=str(other), dtype="float32"), SECTION, seed=0)
    try:
        ids = tuple(engine.spellings("yes") + engine.spellings("no"))
        question, image = "is there a red circle?", png((80, 60), COLORS[0])
        samples, *judged = engine.generate(
            [
                Request(question, image, n=3, seed=1, temperature=1.0, max_tokens=6),
                *[Request(question, picture, max_tokens=1, logprob_token_ids=ids) for picture in (image, None)],
                Request(question, png((80, 60), COLORS[1]), max_tokens=1, logprob_token_ids=ids),
            ],
            "other",
        )
    finally:
        engine.close()
    assert len({completion.text for completion in samples}) == 3
    first, blind, second = (completion.logprobs for (completion,) in judged)
    assert first is not None and set(first) == set(ids)
    assert first != blind and first != second


@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_is_aligned_and_served_again(other: Path, tmp_path: Path, method: str) -> None:
    config = config_of(other, method=method, lora={"r": 4, "alpha": 8})
    write_pairs(tmp_path / "run", config, varied_pairs(8))
    run_dpo(Run(tmp_path / "run", config, "dpo"))
    log = json.loads((tmp_path / "run" / "dpo" / "log.json").read_text())
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert log[-2]["loss"] < log[0]["loss"]
    policy = tmp_path / "run" / "policy"
    before, after = (load_file(folder / "model.safetensors") for folder in (other, policy))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and not any("vision" in name for name in moved)
    assert (other / "config.json").read_text() == (policy / "config.json").read_text()
    engine = open_engine(ModelSection(model=str(policy), dtype="float32"), SECTION, seed=0)
    try:
        ((answer,),) = engine.generate([Request("is there a star?", png((40, 90)), max_tokens=3)], "served again")
    finally:
        engine.close()
    assert answer.num_tokens


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
