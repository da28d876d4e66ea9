"""Figures of the embedded models after each stage of training."""

import json
import random
from pathlib import Path

import pytest

from scenes.recipe import model_figures, training_table
from scenes.recipe.tasks import Branch
from scenes.world import render
from tests.support.captions.scene_truth import SCENE


def test_a_description_counts_as_the_truth_has_it() -> None:
    caption, question = model_figures.descriptions(SCENE, random.Random(0))
    answer = "This is a room. There is a cat at the top left. There are two green apples in the center."
    assert question.score(answer) == {"false mentions": (1, 3), "of these habits": (0, 1), "recall": (1, 2)}
    assert caption.prompt == "" and caption.score(answer) == {"caption recall": (1, 2)}
    assert question.score("Nothing.") == {"false mentions": (0, 0), "of these habits": (0, 0), "recall": (0, 2)}


def test_only_things_are_recalled() -> None:
    """A mention of the kind of scene, of a relation or of a sign names no thing; one of several is enough."""
    assert model_figures.recall("This is a room. The cat is behind the apples. A sign says STOP.", SCENE) == (0, 2)
    assert model_figures.recall("A cat and an apple.", SCENE) == (2, 2)
    assert model_figures.recall("A cat, a large cat, three apples.", SCENE) == (1, 2)


def test_every_kind_of_picture_has_the_same_questions_each_time() -> None:
    for pictures in model_figures.KINDS.values():
        first, again = (model_figures.sample_questions(3, pictures) for _ in range(2))
        assert [question.prompt for question in first] == [question.prompt for question in again]
        assert [question.image.tobytes() for question in first] == [question.image.tobytes() for question in again]
        assert {question.image.size for question in first} <= set(pictures.canvases)
        scores = [question.score("") for question in first]
        for figure in ("caption recall", "recall", "sign read"):
            assert sum(figure in score for score in scores) == 3
        assert sum("yes/no right" in score for score in scores) == 6
        assert sum(question.prompt == "What does the sign say?" for question in first) == 3


def test_a_sign_is_read_if_all_of_the_answer_is_right() -> None:
    branch = Branch("What does the sign say?", "It says STOP.")
    question = model_figures.exact_match(render(SCENE), branch, "sign read")
    for answer, right in (("It says STOP.", 1), ("It says SHOP.", 0), ("It says STOP", 0), ("", 0)):
        assert question.score(answer) == {"sign read": (right, 1)}


def test_the_margin_of_an_interval() -> None:
    """Of 100 independent questions, half of them right: 1.96 * sqrt(0.25 / 100) is 9.8 points."""
    assert model_figures.margin([(index % 2, 1) for index in range(100)]) == pytest.approx(9.8, abs=0.9)
    assert model_figures.margin([(1, 1)] * 50) == 0


@pytest.mark.slow
def test_the_table_of_stages_has_a_row_a_model(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert training_table.main([str(tiny_model), "--scenes", "1", "--out", str(tmp_path / "figures.json")]) == 0
    *_, header, _, row, within = capsys.readouterr().out.strip().split("\n")
    assert header == "| model | caption recall | false mentions | of these habits | recall | yes/no right | sign read |"
    assert row.startswith("| tiny | ") and row.count("/") == 6 * (len(model_figures.KINDS) - 1)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["tiny"]["recall"]["large"] == [0, 0]
    assert within.startswith("| 95% within | 0 / 0")
    assert training_table.main([str(tmp_path)]) == 2
    assert "has no config.json; expected the folder of a trained model" in capsys.readouterr().err
    assert training_table.main(["old/labeler", "new/labeler", str(tiny_model)]) == 2
    assert capsys.readouterr().err == "error: several folders are named labeler; a row has this name\n"
