"""The tables of raw captions and of seed examples."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from evaluation.caption_errors import find_errors
from rlaif.text import words
from scenes.language import CAPTION_WORDS, ThingMention, find_mentions
from scenes.prompts import REWRITE_PROMPT
from scenes.recipe import raw_captions
from scenes.truth import SceneTruth
from tests.support import ROOT
from training.conversations import read_table


def test_the_rewriter_was_trained_on_the_prompt_of_generation() -> None:
    assert (ROOT / "generation" / "rewrite.txt").read_text().strip() == REWRITE_PROMPT


def test_tables_of_the_embedded_captions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert raw_captions.main(["--out", str(tmp_path), "--raw", "30", "--seeds", "40"]) == 0
    assert "seeds.parquet: 10 rows" in capsys.readouterr().out
    seeds = read_table(str(tmp_path / "seeds.parquet"))
    answers = [json.loads(example[1]["content"]) for row in seeds for example in row["conversations"]]
    assert {tuple(answer) for answer in answers} == {("question", "answer")}
    assert 0 < sum(not answer["answer"] for answer in answers) < 20
    raw = pq.read_table(tmp_path / "raw.parquet").to_pylist()
    errors = [find_errors(row["caption"], SceneTruth(row["reference"])) for row in raw]
    assert 5 < sum(error.error for error in errors) < 30
    assert read_table(str(tmp_path / "raw.parquet")).column_names == ["image", "caption"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "6"], "argument --seeds: 6 is not a multiple of 4, which share a row"),
        (["--raw", "0"], "argument --raw: '0' is not a whole number from 1 on"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        raw_captions.main(["--out", str(tmp_path / "captions"), *arguments])
    assert caught.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "captions").exists()


def test_captions_without_noise_have_no_error() -> None:
    """Each thing and the sign once, all of it true, and no other words."""
    signs = 0
    for index in range(300):
        scene, text = raw_captions.captioned_scene(random.Random(index))
        errors = find_errors(text, SceneTruth(json.dumps(scene.truth)))
        assert not errors.error and not errors.stray, text
        assert CAPTION_WORDS.issuperset(word for word in words(text) if not word.isdigit())
        signs += "A sign says " in text
    assert 30 < signs < 90  # a fifth


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("There is a car on the left. There are two cats at the top.", "What is in this image?"),
        ("There are two cats at the top.", "What is in this image?"),
        ("I can see a car on the left.", "What do you see in the picture?"),
        ("The picture shows a car. A sign says STOP.", "Which objects can you see?"),
        ("I can see a small car on the left. A sign says STOP.", "What does the image show, in detail?"),
        ("", "Which objects can you see?"),
    ],
)
def test_questions_that_captions_answer(answer: str, question: str) -> None:
    assert raw_captions.question_to(answer) == question


def test_questions_in_detail_are_about_captions_with_sizes() -> None:
    for index in range(100):
        _, text = raw_captions.captioned_scene(random.Random(index))
        sizes = [it.size for it in find_mentions(text) if isinstance(it, ThingMention) and it.size]
        assert raw_captions.question_to(text).endswith("in detail?") == bool(sizes)
