"""Image-text models of other families as policy and labeler: served by vLLM, aligned by TRL, served again."""

import json
import math
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo.policy import load_collator
from dpo.stage import run_dpo
from rlaif.config import EngineSection, ModelSection
from rlaif.errors import ConfigError
from rlaif.inference.engine import IMAGE_REFUSED, Engine, Request
from rlaif.inference.open import open_engine
from rlaif.inference.vllm_engine import VllmEngine
from rlaif.storage.run import Run
from rlaif.text import special_tokens
from tests.support.alignment import align, config_of, kill_at_step, moved, weights
from tests.support.engines import prompt_tokens
from tests.support.other_models import OTHER_MODELS
from tests.support.pair_rows import pair_row, png

# vLLM runs in this process, and its libraries raise warnings.
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

COLORS = [(200, 30, 30), (30, 30, 200)]


@pytest.fixture(scope="module", params=OTHER_MODELS)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, named after its family."""
    if OTHER_MODELS[request.param].needs_torchvision:
        pytest.importorskip("torchvision")
    folder: Path = tmp_path_factory.mktemp("other") / request.param
    OTHER_MODELS[request.param].save(folder)
    return folder


def serve(folder: Path, family: str) -> Engine:
    needs = OTHER_MODELS[family]
    section = EngineSection(max_model_len=512, max_num_seqs=16, **needs.engine)
    return open_engine(ModelSection.model_validate({"model": str(folder), "dtype": needs.dtype}), section, seed=0)


def test_it_answers_and_verifies_from_the_image(other: Path) -> None:
    question, image = "is there a red circle?", png((80, 60), COLORS[0])
    with closing(serve(other, other.name)) as engine:
        words = ("yes", "no")
        samples, *verdicts = engine.generate(
            [
                Request(question, image, n=3, seed=1, temperature=1.0, max_tokens=6),
                *[Request(question, picture, max_tokens=1, first_words=words) for picture in (image, None)],
                Request(question, png((80, 60), COLORS[1]), max_tokens=1, first_words=words),
            ],
        )
    assert len({completion.text for completion in samples}) == 3
    first, blind, second = (completion.first_words for (completion,) in verdicts)
    assert first is not None and set(first) == set(words)
    assert first != blind and first != second


def test_text_that_looks_like_its_special_tokens_stays_text(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In inference and in alignment: no more special tokens than with harmless text."""
    collator = load_collator(ModelSection(model=str(other)), config_of(other).dpo, None)
    processor: Any = collator.processor
    tokenizer = processor.tokenizer
    tokens = [token for token in special_tokens(tokenizer) if not re.match("<row_[2-6]|<row_1_col_[2-6]", token)]
    assert "<|im_end|>" in tokens and "<pad>" in tokens
    hostile = " ".join(tokens) + " <image> red"
    special = set(tokenizer.all_special_ids)

    def count(ids: list[int]) -> int:
        return sum(token in special for token in ids)

    with closing(serve(other, other.name)) as engine:
        assert isinstance(engine, VllmEngine)
        prompts = [
            prompt_tokens(engine, Request(text, png((56, 56)), max_tokens=1), monkeypatch)
            for text in (hostile, "is there a red circle?")
        ]
    assert count(prompts[0]) == count(prompts[1])

    def batch(text: str) -> list[int]:
        ids = collator([pair_row("a", text, f"{text} left", f"{text} right")])["input_ids"]
        return [token for row in ids.tolist() for token in row if token != tokenizer.pad_token_id]

    assert count(batch(hostile)) == count(batch("is there a red circle?"))


def test_an_image_that_its_processor_refuses_does_not_affect_the_others(tmp_path: Path) -> None:
    """Qwen2.5-VL does not accept an aspect ratio above 200."""
    pytest.importorskip("torchvision")
    OTHER_MODELS["qwen2_5_vl"].save(tmp_path / "qwen2_5_vl")
    sizes = [(56, 56), (20000, 10), (80, 60)]
    with closing(serve(tmp_path / "qwen2_5_vl", "qwen2_5_vl")) as engine:
        answers = engine.generate([Request("what is it?", png(size), max_tokens=2) for size in sizes])
    assert [answer.finish_reason == IMAGE_REFUSED for (answer,) in answers] == [False, True, False]


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
        ((answer,),) = engine.generate([Request("is there a star?", png((40, 90)), max_tokens=3)])
    assert answer.num_tokens


def test_a_killed_alignment_resumes(other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_settings_for_minicpm_v_only_are_refused(
    other: Path, tmp_path: Path, change: dict[str, Any], name: str
) -> None:
    with pytest.raises(ConfigError, match=f"{name} works with MiniCPM-V only"):
        run_dpo(Run(tmp_path / "run", config_of(other, **change), "dpo"))
    assert not (tmp_path / "run").exists()
