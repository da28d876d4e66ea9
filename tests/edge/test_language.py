"""The language model of an export: the tokens and logits of the policy itself, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.gguf.export import write_language
from edge.language import LanguageModel
from edge.policy import Policy
from edge.settings import Settings
from edge.slices import Prompt
from rlaif.errors import InputError
from tests.support.edge.original import MAX_TOKENS, Original, OriginalModel, scenes
from tests.support.tiny import save_tiny_model

pytestmark = pytest.mark.slow
ONE_THREAD = Settings(threads=1)  # the other cores have tests of their own


@pytest.fixture(scope="module")
def originals(original: OriginalModel) -> list[Original]:
    return [original.answer(scene.png, scene.instruction) for scene in scenes(4)]


def language_file(run: Path, quant: str = "f16") -> Path:
    return run / "edge" / f"language-{quant}.gguf"


def test_f16_writes_what_the_policy_writes(edge_run: Path, originals: list[Original]) -> None:
    with LanguageModel(language_file(edge_run), ONE_THREAD) as model:
        for expected in originals:
            found = model.generate(expected.prompt, expected.features, MAX_TOKENS, logits=True)
            assert found.ids == expected.ids and found.finish_reason == "stop"
            assert model.text(found.ids) == expected.text
            assert found.logits is not None
            assert found.logits.shape == expected.logits.shape  # of each token and of the end
            assert np.abs(found.logits - expected.logits).max() < 0.02
            assert found.prompt_tokens == len(expected.prompt.ids)
            assert found.prompt_seconds > 0 < found.seconds


def test_the_features_decide(edge_run: Path, originals: list[Original]) -> None:
    """The negative control of the test above: with blank features the logits are others."""
    expected = originals[0]
    with LanguageModel(language_file(edge_run), ONE_THREAD) as model:
        found = model.generate(expected.prompt, np.zeros_like(expected.features), 1, logits=True)
    assert found.logits is not None
    assert np.abs(found.logits[0] - expected.logits[0]).max() > 0.5


def test_following_other_tokens_gives_the_logits_after_each(edge_run: Path, originals: list[Original]) -> None:
    expected = originals[0]
    with LanguageModel(language_file(edge_run), ONE_THREAD) as model:
        free = model.generate(expected.prompt, expected.features, MAX_TOKENS, logits=True)
        followed = model.generate(expected.prompt, expected.features, MAX_TOKENS, follow=free.ids, logits=True)
        assert free.logits is not None and followed.logits is not None
        assert followed.ids == free.ids and followed.finish_reason == "followed"
        assert np.array_equal(followed.logits, free.logits)
        other = model.generate(expected.prompt, expected.features, MAX_TOKENS, follow=[*free.ids[:3], 9], logits=True)
        assert other.logits is not None
        assert len(other.logits) == 5
        assert np.array_equal(other.logits[:4], free.logits[:4])
        assert not np.array_equal(other.logits[4], free.logits[4])


def test_a_prompt_in_small_batches_is_the_same_prompt(edge_run: Path, originals: list[Original]) -> None:
    expected = originals[0]
    logits = []
    for batch in (2048, 7):  # 7 is no divisor of a slice's 16 features
        with LanguageModel(language_file(edge_run), Settings(threads=1, batch=batch, ubatch=batch)) as model:
            found = model.generate(expected.prompt, expected.features, 1, logits=True)
        assert found.logits is not None
        logits.append(found.logits)
    assert np.abs(logits[0] - logits[1]).max() < 1e-2


@pytest.mark.parametrize("kv_type", ["q8_0", "q4_0"])
def test_settings_reach_llama_cpp(edge_run: Path, originals: list[Original], kv_type: str) -> None:
    """A quantized cache moves the logits, but not far."""
    expected = originals[0]
    with LanguageModel(language_file(edge_run), Settings(kv_type=kv_type, repack=False, threads=1)) as model:
        found = model.generate(expected.prompt, expected.features, 1, logits=True)
    assert found.logits is not None
    assert 1e-3 < np.abs(found.logits[0] - expected.logits[0]).max() < 5


def test_an_answer_ends_at_the_limit(edge_run: Path, originals: list[Original]) -> None:
    expected = originals[0]
    length = len(expected.prompt.ids)
    with LanguageModel(language_file(edge_run), ONE_THREAD, context=length + 3) as model:
        short = model.generate(expected.prompt, expected.features, 2, logits=True)
        assert (short.ids, short.finish_reason) == (expected.ids[:2], "length")
        assert short.logits is not None and len(short.logits) == 2
        assert model.generate(expected.prompt, expected.features, 99).ids == expected.ids[:3]  # of the context
        assert model.feed([[1, 2]], 3).finish_reason == "length"  # nothing ends an answer that is only measured


def test_a_prompt_that_does_not_fit_is_refused(edge_run: Path, originals: list[Original]) -> None:
    expected = originals[0]
    length = len(expected.prompt.ids)
    with LanguageModel(language_file(edge_run), ONE_THREAD, context=length) as model:
        with pytest.raises(InputError, match=rf"has {length} tokens with its picture, expected 1 to {length - 1} of"):
            model.generate(expected.prompt, expected.features, 1)
        with pytest.raises(InputError, match="has 0 tokens with its picture"):
            model.generate(Prompt([], [], None, 5), None, 1)


def test_a_width_that_is_padded(llama_cpp: Any, tmp_path: Path) -> None:
    """192, and 256 in the file, of which the last 64 are zeros. Features of another width are refused."""
    folder = tmp_path / "model"
    save_tiny_model(folder, width=192)
    expected = OriginalModel(folder).answer(scenes(1)[0].png, "is there a star?")
    with LanguageModel(write_language(Policy(folder, "tiny", "0"), tmp_path), ONE_THREAD) as model:
        assert model.width == expected.features.shape[2] == 192
        found = model.generate(expected.prompt, expected.features, 1, logits=True)
        assert found.logits is not None
        assert np.abs(found.logits[0] - expected.logits[0]).max() < 0.02
        for width in (191, 256):
            other = np.zeros((*expected.features.shape[:2], width), np.float32)
            with pytest.raises(InputError, match=rf"features of width {width} for language-f16.gguf, expected 192;"):
                model.generate(expected.prompt, other, 1)


def test_files_that_are_not_whole_are_refused(edge_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing; write it with `make export-edge RUN="):
        LanguageModel(tmp_path / "language-f16.gguf")
    cut, text = tmp_path / "cut.gguf", tmp_path / "text.gguf"
    shutil.copyfile(language_file(edge_run), cut)
    with cut.open("r+b") as file:
        file.truncate(cut.stat().st_size // 2)
    text.write_text("not a model")
    for broken in (cut, text):
        with pytest.raises(InputError) as refused:
            LanguageModel(broken)
        assert f"{broken} is damaged or cut short (" in str(refused.value)
        assert str(refused.value).endswith(f"delete it and run `make export-edge RUN={broken.parent.parent}`")
        assert "\n" not in str(refused.value)
