"""The labeler's table of what a policy says about scenes."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model import MiniCPMVProcessor
from scenes.language import find_mentions, mention_is_true
from scenes.prompts import SPLIT_PROMPT
from scenes.recipe import answers
from scenes.recipe.tasks import split_answer
from scenes.source import scene_rows
from tests.support.captions.asking import question_mention
from tests.support.captions.scene_truth import REFERENCE
from training.conversations import Conversations, read_table

TRUE = "There is a large cat at the top. There are two red apples on the left. "
FALSE = "There is a dog in the center. A sign says SHOP. There are three red apples on the left. "


def write_run(folder: Path, responses: list[str]) -> list[dict[str, Any]]:
    """The tables of a run on eight scenes, of which the last is of another split and has no responses."""
    rows = list(scene_rows("train", 8, 0))
    prompts = [
        {
            "prompt_id": f"p{number}",
            "image": {"bytes": row.png, "path": None},
            "source": "scenes",
            "reference": json.dumps(row.reference),
        }
        for number, row in enumerate(rows)
    ]
    answered = [{"prompt_id": prompt["prompt_id"], "text": text} for prompt in prompts[:-1] for text in responses]
    pq.write_table(pa.Table.from_pylist(prompts), folder / "prompts.parquet")
    pq.write_table(pa.Table.from_pylist(answered), folder / "responses.parquet")
    return prompts


def test_claims_are_of_the_answers_each_once_and_no_more_false_than_true_ones() -> None:
    truth = json.loads(REFERENCE)
    branches = answers.claims([TRUE + FALSE, FALSE + TRUE], truth, random.Random(0))
    for branch in branches:
        assert mention_is_true(question_mention(branch.prompt), truth) == (branch.answer == "Yes")
    assert Counter(branch.answer for branch in branches) == {"Yes": 2, "No": 2}
    assert len({branch.prompt for branch in branches}) == 4
    assert [branch.answer for branch in answers.claims([FALSE], truth, random.Random(0))] == ["No"]
    assert answers.claims(["It looks calm."], truth, random.Random(0)) == []


def test_a_table_has_the_images_with_claims_and_texts_to_split(tiny_model: Path, tmp_path: Path) -> None:
    responses = [TRUE, FALSE]
    prompts = write_run(tmp_path, responses)
    for name in ("a", "b"):
        assert answers.main([str(tmp_path), "--out", str(tmp_path / name / "answers.parquet")]) == 0
    table = pq.read_table(tmp_path / "a" / "answers.parquet")
    assert table == pq.read_table(tmp_path / "b" / "answers.parquet")
    rows = table.to_pylist()
    images = [row["images"][0]["bytes"] for row in rows if row["images"]]
    assert images == [prompt["image"]["bytes"] for prompt in prompts[:-1]]
    splits = [row["conversations"][0] for row in rows if not row["images"]]
    assert splits and len(splits) < len(images)
    for question, answer in splits:
        response = next(text for text in responses if SPLIT_PROMPT.replace("{response}", text) == question["content"])
        assert answer["content"] == split_answer(response) and len(find_mentions(response)) > 1
    conversations = Conversations(
        read_table(str(tmp_path / "a" / "answers.parquet")), MiniCPMVProcessor.from_pretrained(tiny_model), None
    )
    assert not conversations.drops


def test_a_run_that_cannot_be_learned_from_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without tables, without claims, or of images that are not scenes."""
    command = [str(tmp_path), "--out", str(tmp_path / "answers.parquet")]

    def error() -> str:
        assert answers.main(command) == 2 and not (tmp_path / "answers.parquet").exists()
        return capsys.readouterr().err

    assert error() == f"error: {tmp_path} has no prompts.parquet; run `make generate` first\n"
    prompts = write_run(tmp_path, [TRUE])
    no_text = pa.schema({"prompt_id": pa.string(), "text": pa.string()})
    pq.write_table(pa.Table.from_pylist([], no_text), tmp_path / "responses.parquet")
    assert error().startswith(f"error: the responses of {tmp_path} make no claims")
    photos = [{**prompt, "source": "folder", "reference": None} for prompt in prompts[:1]]
    pq.write_table(pa.Table.from_pylist([*prompts[1:], *photos]), tmp_path / "prompts.parquet")
    assert "has images of folder, whose truth is unknown; give a run of data.source=scenes" in error()
