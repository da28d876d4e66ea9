"""Scenes: their sampling, their pictures, and the source of prompts."""

import io
import itertools
import json
import random

import numpy as np
import pytest
from PIL import Image

from model.slicing import best_grid
from scenes.recipe.new_model import RESOLUTION
from scenes.source import scene_rows
from scenes.world import CANVASES, PLACES, SHAPES, SIZES, Scene, SceneObject, render, sample_scene
from tests.support.captions.scene_truth import SCENE


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
    image = render(SCENE)
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


def test_scenes_hold_one_object_a_place_in_reading_order() -> None:
    for index in range(200):
        scene = sample_scene(random.Random(index))
        places = [PLACES.index(item.place) for item in scene.objects]
        assert 1 <= len(places) <= 4 and places == sorted(set(places))
        assert all(item.size in SIZES for item in scene.objects)
