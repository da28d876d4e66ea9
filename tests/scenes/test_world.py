"""Things, their pictures and habits; scenes, their sampling and pictures; and the source of prompts."""

import io
import itertools
import json
import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from model.slicing import best_grid
from scenes.recipe.new_model import RESOLUTION
from scenes.source import scene_rows
from scenes.world import (
    CANVASES,
    PLACES,
    SIZES,
    Scene,
    SceneObject,
    hidden_by,
    places_beside,
    relation_of,
    relations,
    render,
    sample_scene,
)
from scenes.world.habits import COMPANIONS, USUAL_COLORS, USUAL_NUMBERS
from scenes.world.pictures import FOLDER, HELD_OUT, HUES, SETS, names_with_pictures, path_of, picture, resized
from scenes.world.scene import MAX_OBJECTS
from scenes.world.signs import BOARDS, Sign, misread
from scenes.world.things import COLORS, KINDS, THINGS

SCENE = Scene(
    84,
    84,
    "room",
    (
        SceneObject("cat", 1, None, "small", "top"),
        SceneObject("couch", 1, "blue", "large", "center"),
        SceneObject("dog", 2, None, None, "right"),
    ),
    Sign("EXIT", "bottom", "green"),
)


def changed_box(image: Image.Image, other: Image.Image) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) in which two pictures differ; right and bottom are outside."""
    rows, columns = np.nonzero((np.asarray(image) != np.asarray(other)).any(-1))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


# ----- things


@pytest.mark.parametrize("picture_set", SETS)
def test_every_thing_has_a_picture_of_its_own_in_each_set(picture_set: str) -> None:
    contents = {path_of(name, picture_set).read_bytes() for name in THINGS}
    assert len(contents) == len(THINGS) == 52
    for name in THINGS:
        opacity = np.asarray(picture(name, picture_set, None).getchannel("A")) > 128
        assert 0.1 < opacity.mean() < 1, name  # it has a shape


def test_held_out_pictures_are_of_things_and_unlike_the_others() -> None:
    held_out = names_with_pictures((HELD_OUT,))
    assert len(held_out) == len(list((FOLDER / HELD_OUT).glob("*.webp"))) == 44
    for name in held_out:
        shown = [np.asarray(resized(name, folder, None, 32, False).resize((32, 32))) for folder in (*SETS, HELD_OUT)]
        assert not any(np.array_equal(one, other) for one, other in itertools.combinations(shown, 2)), name


def test_a_thing_has_the_color_that_it_is_given() -> None:
    for thing, picture_set in itertools.product(THINGS.values(), (*SETS, HELD_OUT)):
        for color in thing.colors if thing.name in names_with_pictures((picture_set,)) else ():
            image = picture(thing.name, picture_set, color)
            assert image.getchannel("A").tobytes() == picture(thing.name, picture_set, None).getchannel("A").tobytes()
            hue, saturation, _ = np.moveaxis(np.asarray(image.convert("RGB").convert("HSV")).astype(float), -1, 0)
            colored = (saturation > 64) & (np.asarray(image.getchannel("A")) > 128)
            distance = np.abs((hue[colored] * 360 / 255 - HUES[color] + 180) % 360 - 180)
            assert (distance < 15).mean() > 0.5, (thing.name, picture_set, color)


def test_things_and_habits_speak_of_what_there_is() -> None:
    for thing in THINGS.values():
        assert thing.kinds and set(thing.kinds) <= set(KINDS) and set(thing.colors) <= set(COLORS)
        assert 1 <= thing.max_number <= 3
    for name, (companion, place) in COMPANIONS.items():
        assert name != companion and place in PLACES
        assert set(THINGS[name].kinds) & set(THINGS[companion].kinds), name  # they meet
    for name, number in USUAL_NUMBERS.items():
        assert 2 <= number <= THINGS[name].max_number
    for name, color in USUAL_COLORS.items():
        assert color == THINGS[name].colors[0] and len(THINGS[name].colors) > 1


# ----- signs


@pytest.mark.parametrize("text", ["STOP", "IN", "FLOWERS", "42"])
def test_a_misread_sign_is_another_text_that_looks_like_it(text: str) -> None:
    others = {misread(text, random.Random(index)) for index in range(200)}
    assert text not in others and len(others) > 5
    assert all(other.isdigit() == text.isdigit() for other in others)


def test_a_word_is_misread_as_one_with_the_same_letters() -> None:
    assert {misread("STOP", random.Random(index)) for index in range(200)} >= {"SHOP", "STONE"}


# ----- scenes


def test_scenes_of_new_drawings_have_only_things_that_have_one() -> None:
    scenes = [sample_scene(random.Random(index), sets=(HELD_OUT,)) for index in range(500)]
    assert {item.picture_set for scene in scenes for item in scene.objects} == {HELD_OUT}
    assert (
        {item.name for scene in scenes for item in scene.objects}
        == set(names_with_pictures((HELD_OUT,)))
        != set(THINGS)
    )
    for scene in scenes[:50]:
        render(scene)  # no picture is missing


def test_places_beside_a_place_touch_it() -> None:
    assert places_beside("top left") == ["top", "left", "center"]
    assert places_beside("right") == ["top", "top right", "center", "bottom", "bottom right"]
    assert len(places_beside("center")) == 8


def test_scenes_hold_one_kind_of_thing_a_place_in_reading_order() -> None:
    signs = 0
    for index in range(500):
        scene = sample_scene(random.Random(index))
        places = [PLACES.index(item.place) for item in scene.objects]
        assert 1 <= len(places) <= MAX_OBJECTS and places == sorted(set(places))
        assert len({item.name for item in scene.objects}) == len(scene.objects)
        for item in scene.objects:
            thing = THINGS[item.name]
            assert 1 <= item.number <= thing.max_number
            assert item.color in thing.colors if thing.colors else item.color is None
            assert item.size in SIZES if item.number == 1 else item.size is None
        signs += scene.sign is not None
        assert not scene.sign or not {item.place for item in scene.objects} & set(hidden_by(scene.sign.place))
    assert 70 < signs < 130  # a fifth
    assert all(sample_scene(random.Random(index), signs=1.0).sign for index in range(20))


def test_companions_are_often_beside_their_things_at_their_usual_place() -> None:
    with_companion, elsewhere, total = 0, 0, 0
    for index in range(4000):
        objects = sample_scene(random.Random(index), signs=0).objects
        where = {item.name: item.place for item in objects}
        for name in where:
            companion, place = COMPANIONS.get(name, ("", ""))
            total += bool(companion) and len(objects) > 1
            with_companion += where.get(companion) == place
            elsewhere += companion in where and where[companion] != place
    assert with_companion > 4 * elsewhere and 0.2 < with_companion / total < 0.7


@pytest.mark.parametrize(
    ("name", "place", "other", "other_place", "relation"),
    [
        ("cat", "left", "dog", "center", "next to"),
        ("cat", "center", "dog", "left", None),  # said from left to right
        ("cat", "left", "dog", "right", None),  # not side by side
        ("cat", "right", "dog", "bottom left", None),  # the next place in reading order, but not beside it
        ("cat", "top", "couch", "center", "on"),
        ("cat", "center", "couch", "top", None),
        ("cat", "top", "couch", "bottom", None),
        ("toilet", "top", "couch", "center", "behind"),  # too heavy
        ("cat", "top", "tv", "center", "behind"),  # carries nothing
        ("cat", "top left", "couch", "center", None),
    ],
)
def test_relations_follow_from_places(
    name: str, place: str, other: str, other_place: str, relation: str | None
) -> None:
    assert relation_of(name, place, other, other_place) == relation


def test_relations_of_a_scene() -> None:
    related = relations(SCENE.truth["objects"])
    assert [(first["name"], relation, other["name"]) for first, relation, other in related] == [
        ("cat", "on", "couch"),
        ("couch", "next to", "dog"),
    ]


# ----- pictures of scenes


def test_pictures_are_the_same_every_time_and_as_large_as_the_scene() -> None:
    seen = set()
    for index in range(60):
        scene = sample_scene(random.Random(index))
        image = render(scene)
        assert image.size == (scene.width, scene.height) and image.mode == "RGB"
        assert render(scene).tobytes() == image.tobytes()
        assert render(replace(scene, background=scene.background + 1)).tobytes() != image.tobytes()
        seen.add(image.tobytes())
    assert len(seen) == 60


def test_some_canvases_need_slicing_and_some_do_not() -> None:
    grids = {best_grid(size, RESOLUTION, 9) for size in CANVASES}
    assert grids >= {None, (2, 1), (1, 2), (2, 2)}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("width", "height"), CANVASES)
def test_a_thing_is_drawn_at_its_place(place: str, width: int, height: int) -> None:
    row, column = divmod(PLACES.index(place), 3)
    empty = Scene(width, height, "street", ())
    for number in (1, 2, 3):
        item = SceneObject("donut", number, None, "small" if number == 1 else None, place)
        left, top, right, bottom = changed_box(render(replace(empty, objects=(item,))), render(empty))
        x, y = (left + right) / 2 / width * 3, (top + bottom) / 2 / height * 3
        assert column < x < column + 1 and row < y < row + 1


def test_numbers_sizes_sets_and_sides_look_different() -> None:
    small = SceneObject("apple", 1, "red", "small", "center")
    items = [
        small,
        replace(small, size="large"),
        replace(small, color="green"),
        replace(small, picture_set=SETS[1]),
        replace(small, flipped=True),
        replace(small, number=2, size=None),
        replace(small, number=3, size=None),
    ]
    looks = [np.asarray(render(Scene(84, 84, "kitchen", (item,)))).astype(int) for item in items]
    for one, other in itertools.combinations(looks, 2):
        assert (np.abs(one - other).sum(-1) > 60).sum() > 40


def test_a_sign_stands_within_one_slice_and_nothing_hides_its_text() -> None:
    for index in range(300):
        scene = sample_scene(random.Random(index), signs=1.0)
        assert scene.sign
        alone = replace(scene, objects=())
        board = changed_box(render(alone), render(replace(alone, sign=None)))
        columns, rows = best_grid((scene.width, scene.height), RESOLUTION, 9) or (1, 1)
        slices = {  # of the corners of the board
            (int(x * columns / scene.width), int(y * rows / scene.height))
            for x in (board[0], board[2] - 1)
            for y in (board[1], board[3] - 1)
        }
        assert len(slices) == 1, (scene.width, scene.height, board)
        inside = (board[0] + 3, board[1] + 3, board[2] - 3, board[3] - 3)
        pixels, drawn = (np.asarray(render(it).crop(inside)).astype(int) for it in (alone, scene))
        paper = np.array(BOARDS[scene.sign.board][0])
        text = np.abs(pixels - paper).sum(-1) > 60
        assert text.sum() > 20
        assert (text & (pixels != drawn).any(-1)).sum() < 0.2 * text.sum(), index


def test_texts_of_signs_look_different() -> None:
    looks = {
        render(Scene(84, 84, "street", (), Sign(text, "top", "white"))).tobytes()
        for text in ("STOP", "SHOP", "10", "70")
    }
    assert len(looks) == 4


# ----- the source of prompts


def test_scenes_are_fixed_by_seed_and_splits_are_disjoint() -> None:
    train_rows, test_rows = (list(scene_rows(split, 50, 0)) for split in ("train", "test"))
    assert train_rows == list(scene_rows("train", 50, 0))
    assert train_rows[:10] == list(scene_rows("train", 10, 0)) and train_rows[10:] == list(
        scene_rows("train", 40, 0, 10)
    )
    assert not {row.png for row in train_rows} & {row.png for row in test_rows}
    assert not {row.png for row in train_rows} & {row.png for row in scene_rows("train", 50, 1)}
    assert len({row.instruction for row in scene_rows("test", 200, 0)}) >= 8


def test_a_row_has_the_picture_and_the_truth() -> None:
    (row,) = scene_rows("test", 1, 5)
    assert Image.open(io.BytesIO(row.png)).size == (row.reference["width"], row.reference["height"])
    assert json.loads(json.dumps(row.reference)) == row.reference
    assert SCENE.truth == {
        "kind": "room",
        "objects": [
            {"name": "cat", "number": 1, "color": None, "size": "small", "place": "top"},
            {"name": "couch", "number": 1, "color": "blue", "size": "large", "place": "center"},
            {"name": "dog", "number": 2, "color": None, "size": None, "place": "right"},
        ],
        "sign": {"text": "EXIT", "place": "bottom"},
        "width": 84,
        "height": 84,
    }


def test_unknown_split_is_an_error() -> None:
    with pytest.raises(
        ValueError, match="unknown split 'dev' of the embedded scenes; allowed: train, validation, test"
    ):
        next(scene_rows("dev", 1, 0))
