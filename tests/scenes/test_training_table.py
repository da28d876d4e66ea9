"""Figures of the embedded models after each stage of training."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model import MiniCPMVProcessor
from scenes.recipe import model_figures, ship, training_table
from scenes.recipe.tasks import Branch
from scenes.recipe.trained import trained_models
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
    for pictures in model_figures.PICTURE_KINDS.values():
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
    assert row.startswith("| tiny | ") and row.count("/") == 6 * (len(model_figures.PICTURE_KINDS) - 1)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["tiny"]["recall"]["large"] == [0, 0]
    assert within.startswith("| 95% within | 0 / 0")


def test_folders_are_checked_before_any_model_is_measured_or_saved(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (training_table.main, ship.main):
        out = ["--out", str(tmp_path / "out")]
        assert command([str(tiny_model), str(tmp_path), *out]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith(f"error: {tmp_path} is not a model folder: it has no config.json; give a folder")
        assert not captured.out and not (tmp_path / "out").exists()
        assert command(["old/labeler", "new/labeler", str(tiny_model), *out]) == 2
        assert "error: several folders are named labeler; give folders of different" in capsys.readouterr().err


def test_models_are_shipped_in_bfloat16_under_the_names_of_their_runs(tiny_model: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "policy", tmp_path / "assets"
    shutil.copytree(tiny_model, run / "model")
    assert trained_models([tiny_model, run]) == {tiny_model.name: tiny_model, "policy": run / "model"}
    assert ship.main([str(run), "--out", str(out)]) == 0
    assert [folder.name for folder in out.iterdir()] == ["policy"]
    trained, shipped = (load_file(folder / "model.safetensors") for folder in (tiny_model, out / "policy"))
    assert trained.keys() == shipped.keys()
    assert all(torch.equal(shipped[name], value.to(torch.bfloat16)) for name, value in trained.items())
    assert MiniCPMVProcessor.from_pretrained(out / "policy").tokenizer.eos_token == "<|eot_id|>"
