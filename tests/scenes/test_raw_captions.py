"""The tables of raw captions and of seed examples."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from evaluation.caption_errors import find_errors
from rlaif.text import words
from scenes.language import CAPTION_WORDS
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
    for index in range(100):
        _, text = raw_captions.captioned_scene(random.Random(index))
        assert CAPTION_WORDS.issuperset(words(text))
