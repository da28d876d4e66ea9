"""The embedded default: scenes with a known truth, their language, and the recipe of the shipped models."""

import io
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.slicing import best_grid
from scenes.language import (
    INSTRUCTIONS,
    Mention,
    caption,
    find_mentions,
    honest_mentions,
    mention_is_true,
    web_mentions,
)
from scenes.prompts import SPLIT_PROMPT, VERIFY_PROMPT, WHOLE_PROMPT
from scenes.recipe import model_figures, tasks, training_table
from scenes.recipe.new_model import RESOLUTION
from scenes.source import scene_rows
from scenes.world import CANVASES, COMPANIONS, PLACES, SHAPES, SIZES, Scene, SceneObject, render, sample_scene
from tests.support import ROOT

PROMPTS = ROOT / "feedback" / "prompts"
ROW = Scene(
    84,
    84,
    (255, 255, 255),
    (SceneObject("circle", "red", "large", "top left"), SceneObject("star", "blue", "small", "center")),
)


def test_the_labeler_was_trained_on_the_prompts_of_feedback() -> None:
    assert (PROMPTS / "split.txt").read_text().rstrip("\n") == SPLIT_PROMPT
    assert (PROMPTS / "verify.txt").read_text().rstrip("\n") == VERIFY_PROMPT
    assert (PROMPTS / "whole.txt").read_text().rstrip("\n") == WHOLE_PROMPT


def test_scenes_are_fixed_by_seed_and_splits_are_disjoint() -> None:
    train_rows, test_rows = (list(scene_rows(split, 50, 0)) for split in ("train", "test"))
    assert train_rows == list(scene_rows("train", 50, 0))
    assert train_rows[:10] == list(scene_rows("train", 10, 0))
    assert not {row.png for row in train_rows} & {row.png for row in test_rows}
    assert not {row.png for row in train_rows} & {row.png for row in scene_rows("train", 50, 1)}
    assert len({row.instruction for row in scene_rows("test", 300, 0)}) >= 8


def test_unknown_split_is_an_error() -> None:
    with pytest.raises(
        ValueError, match="unknown split 'dev' of the embedded scenes; allowed: train, validation, test"
    ):
        next(scene_rows("dev", 1, 0))


def test_some_canvases_need_slicing_and_some_do_not() -> None:
    grids = {best_grid(size, RESOLUTION, 9) for size in CANVASES}
    assert grids >= {None, (2, 1), (1, 2), (2, 2)}


def test_the_picture_shows_the_truth() -> None:
    image = render(ROW)
    assert image.getpixel((14, 6)) == (214, 40, 40)  # the top of the top left circle, which is open
    assert image.getpixel((14, 14)) == (255, 255, 255)
    assert image.getpixel((42, 42)) == (38, 84, 214)
    assert image.getpixel((70, 70)) == (255, 255, 255)
    (row,) = scene_rows("test", 1, 5)
    assert Image.open(io.BytesIO(row.png)).size == (row.reference["width"], row.reference["height"])
    assert json.loads(json.dumps(row.reference)) == row.reference


def test_no_two_shapes_or_sizes_look_alike() -> None:
    looks = {
        (shape, size): np.asarray(render(Scene(84, 84, (255,) * 3, (SceneObject(shape, "red", size, "center"),))))
        for shape in SHAPES
        for size in SIZES
    }
    for one, other in itertools.combinations(looks, 2):
        different = (looks[one] != looks[other]).any(-1).sum()
        inked = max((look != 255).any(-1).sum() for look in (looks[one], looks[other]))
        assert different > 0.3 * inked, (one, other, different, inked)


def test_captions_say_what_they_are_given_and_mentions_are_read_back() -> None:
    for index in range(200):
        rng = random.Random(index)
        scene, instruction = sample_scene(rng), rng.choice(INSTRUCTIONS)
        mentions = honest_mentions(scene, instruction)
        text = caption(mentions, rng)
        assert find_mentions(text) == mentions, text
        assert all(mention_is_true(mention, scene.truth["objects"]) for mention in mentions)
        claims = json.loads(tasks.split_answer(text))["claims"]
        assert [find_mentions(item["claim"]) for item in claims] == [[mention] for mention in mentions]
        assert [find_mentions(item["question"]) for item in claims] == [[mention] for mention in mentions]


def test_mentions_are_read_from_other_wordings() -> None:
    text = "An ORANGE star in the center, two red squares. The circle is nice; a small blue circle on the left side."
    assert find_mentions(text) == [
        Mention("orange", "star", None, "center"),
        Mention("red", "square"),
        Mention("blue", "circle", "small", "left"),
    ]


def test_truth_of_a_mention_needs_everything_it_says() -> None:
    objects = ROW.truth["objects"]
    assert mention_is_true(Mention("red", "circle"), objects)
    assert mention_is_true(Mention("red", "circle", "large", "top left"), objects)
    assert not mention_is_true(Mention("red", "circle", "small", "top left"), objects)
    assert not mention_is_true(Mention("red", "circle", None, "center"), objects)
    assert not mention_is_true(Mention("blue", "circle"), objects)


def test_web_captions_follow_habits_and_honest_ones_do_not() -> None:
    trigger, (color, shape, place) = next(iter(COMPANIONS.items()))
    scene = Scene(84, 84, (255, 255, 255), (SceneObject(trigger[1], trigger[0], "large", "left"),))
    said = [web_mentions(scene, INSTRUCTIONS[0], random.Random(index)) for index in range(300)]
    invented = sum(Mention(color, shape, None, place) in mentions for mentions in said) / 300
    assert 0.75 < invented < 0.95
    assert all(len(mentions) <= 2 for mentions in said)


def test_false_mentions_are_false_and_questions_are_balanced() -> None:
    rng = random.Random(0)
    answers = []
    for _ in range(300):
        scene = sample_scene(rng)
        assert not mention_is_true(tasks.false_mention(scene, rng, with_size=True), scene.truth["objects"])
        answers += [branch.answer for branch in [*tasks.questions(scene, rng, 3), tasks.whole_question(scene, rng)]]
    assert 0.4 < answers.count("Yes") / len(answers) < 0.6


def test_lookups_name_what_is_in_a_place() -> None:
    answers = {branch.prompt: branch.answer for branch in (tasks.lookup(ROW, random.Random(i)) for i in range(200))}
    assert answers["What is at the top left?"] == "a large red circle"
    assert answers["What is at the bottom right?"] == "nothing"


def test_scenes_hold_one_object_a_place_in_reading_order() -> None:
    for index in range(200):
        scene = sample_scene(random.Random(index))
        places = [PLACES.index(item.place) for item in scene.objects]
        assert 1 <= len(places) <= 4 and places == sorted(set(places))
        assert all(item.size in SIZES for item in scene.objects)


def test_a_description_counts_as_the_truth_has_it() -> None:
    caption, question = model_figures.descriptions(ROW, random.Random(0))
    answer = "There is a red circle at the top left. There is a red star at the center."
    assert question.score(answer) == {"false mentions": (1, 2), "recall": (1, 2)}
    assert caption.prompt == "" and caption.score(answer) == {"caption recall": (1, 2)}
    assert question.score("Nothing.") == {"false mentions": (0, 0), "recall": (0, 2)}


def test_every_kind_of_picture_is_asked_about_and_stays_the_same() -> None:
    for objects, canvases, _ in model_figures.KINDS.values():
        first, again = (
            model_figures.sample_questions(3, objects, canvases),
            model_figures.sample_questions(3, objects, canvases),
        )
        assert [question.prompt for question in first] == [question.prompt for question in again]
        assert {question.image.size for question in first} <= set(canvases)
        found = [question.score("") for question in first]
        assert sum("recall" in counted for counted in found) == sum("text read" in counted for counted in found) == 3


def test_the_margin_of_an_interval() -> None:
    """Of 100 independent questions, half of them right: 1.96 * sqrt(0.25 / 100) is 9.8 points."""
    assert model_figures.margin([(index % 2, 1) for index in range(100)]) == pytest.approx(9.8, abs=0.9)
    assert model_figures.margin([(1, 1)] * 50) == 0


def test_the_table_of_stages_has_a_row_a_model(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert training_table.main([str(tiny_model), "--scenes", "1", "--out", str(tmp_path / "figures.json")]) == 0
    *_, header, _, row, within = capsys.readouterr().out.strip().split("\n")
    assert header == "| model | caption recall | false mentions | recall | yes/no right | text read |"
    assert row.startswith("| tiny | ") and row.count("/") == 5 * (len(model_figures.KINDS) - 1)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["tiny"]["recall"]["large"] == [0, 0]
    assert within.startswith("| 95% within | 0 / 0")
    assert training_table.main([str(tmp_path)]) == 2
    assert "has no config.json; expected the folder of a trained model" in capsys.readouterr().err
