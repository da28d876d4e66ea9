"""Scenes: one to four things, each at one of nine places of a canvas, before a background, some with a sign."""

import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from PIL import Image

from scenes.world.backgrounds import draw_background
from scenes.world.habits import COMPANIONS, USUAL_NUMBERS
from scenes.world.pictures import SETS, names_with_pictures, resized
from scenes.world.signs import BOARDS, Sign, draw_sign, sample_text
from scenes.world.things import KINDS, THINGS, Thing

PLACES = (
    "top left",
    "top",
    "top right",
    "left",
    "center",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)  # reading order
SIZES = {"small": 0.82, "large": 1.2}  # longest side, in thirds of the square root of the canvas's area
MAX_OBJECTS = 4

# (width, height) of a canvas -> its share of the scenes. At the resolution of the embedded models, areas up to 84 * 84
# need no slicing, larger ones do.
CANVASES = {
    (84, 84): 39, (98, 70): 18, (70, 98): 18,
    (140, 98): 7, (98, 140): 7, (168, 126): 6, (168, 168): 5,
}  # fmt: skip
SMALL = {size: share for size, share in CANVASES.items() if size[0] * size[1] <= 84 * 84}  # without slices
LARGE = {size: share for size, share in CANVASES.items() if size not in SMALL}
WIDEST_SLICE = max(width for width, _ in SMALL)  # a wider canvas has two slices side by side

IN_KIND_SHARE = 0.85  # of the things are those of the kind of scene
COMPANION_SHARE = 0.8  # how often a thing brings its companion, where there is room for it
USUAL_COLOR_SHARE = 0.4
USUAL_NUMBER_SHARE = 0.4
SIGN_SHARE = 0.2  # of the scenes have a sign
# center of the n-th of several pictures and their size, in units of a cell
GROUPS = {
    1: (((0.0, 0.0),), 1.0),
    2: (((-0.27, 0.05), (0.27, -0.05)), 0.72),
    3: (((-0.29, 0.2), (0.29, 0.2), (0.0, -0.26)), 0.62),
}


@dataclass(frozen=True)
class SceneObject:
    """One thing, or several of it, at one of the nine places.

    Args:
        color: None if the thing comes in one color.
        size: None if there are several.
        picture_set: a folder of assets/pictures.
        shift: of the pictures, in units of a cell.
    """

    name: str
    number: int
    color: str | None
    size: str | None
    place: str
    picture_set: str = SETS[0]
    flipped: bool = False
    shift: tuple[float, float] = (0.0, 0.0)

    @property
    def order(self) -> int:
        """The index of its place in reading order."""
        return PLACES.index(self.place)

    @property
    def truth(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("name", "number", "color", "size", "place")}


@dataclass(frozen=True)
class Scene:
    """A canvas with things; width and height in pixels; background: its seed."""

    width: int
    height: int
    kind: str
    objects: tuple[SceneObject, ...]  # in reading order
    sign: Sign | None = None
    background: int = 0

    @property
    def truth(self) -> dict[str, Any]:
        """What texts may say about the scene, JSON-compatible: the content of `reference`."""
        return {
            "kind": self.kind,
            "objects": [item.truth for item in self.objects],
            "sign": {"text": self.sign.text, "place": self.sign.place} if self.sign else None,
            "width": self.width,
            "height": self.height,
        }


def sample_scene(
    rng: random.Random,
    max_objects: int = MAX_OBJECTS,
    canvases: Mapping[tuple[int, int], int] = CANVASES,
    signs: float = SIGN_SHARE,
    sets: tuple[str, ...] = SETS,
) -> Scene:
    """A scene of one to `max_objects` things, some with their companions, and sometimes a sign.

    Args:
        canvases: (width, height) -> share.
        signs: share of the scenes with a sign.
        sets: the sets that pictures are from; only things that are in all of them occur.
    """
    width, height = rng.choices(list(canvases), weights=list(canvases.values()))[0]
    kind = rng.choice(KINDS)
    sign = sample_sign(rng, width) if rng.random() < signs else None
    free = [place for place in PLACES if not sign or place not in hidden_by(sign.place)]
    names = names_with_pictures(sets)
    usual = [name for name in names if kind in THINGS[name].kinds]
    objects: list[SceneObject] = []
    wanted = rng.randint(1, max_objects)
    while len(objects) < wanted:
        name = rng.choice(usual) if rng.random() < IN_KIND_SHARE else rng.choice(names)
        if any(item.name == name for item in objects):
            continue
        place = rng.choice(free)
        free.remove(place)
        objects.append(sample_object(rng, THINGS[name], place, sets))
        companion, usual_place = COMPANIONS.get(name, (name, place))
        possible = companion in names and usual_place in free and all(item.name != companion for item in objects)
        if possible and len(objects) < wanted and rng.random() < COMPANION_SHARE:
            free.remove(usual_place)
            objects.append(sample_object(rng, THINGS[companion], usual_place, sets))
    ordered = tuple(sorted(objects, key=lambda item: item.order))
    return Scene(width, height, kind, ordered, sign, rng.randrange(2**31))


def sample_object(rng: random.Random, thing: Thing, place: str, sets: tuple[str, ...]) -> SceneObject:
    number = 1
    if thing.max_number > 1 and rng.random() < 0.6:
        usual = USUAL_NUMBERS.get(thing.name)
        number = usual if usual and rng.random() < USUAL_NUMBER_SHARE else rng.randint(1, thing.max_number)
    color = None
    if thing.colors:
        color = thing.colors[0] if rng.random() < USUAL_COLOR_SHARE else rng.choice(thing.colors)
    size = rng.choice(list(SIZES)) if number == 1 else None
    shift = (rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08))
    return SceneObject(thing.name, number, color, size, place, rng.choice(sets), rng.random() < 0.5, shift)


def sample_sign(rng: random.Random, width: int) -> Sign:
    """A sign at the top or bottom; on a canvas with slices side by side, in a corner, where one slice shows all."""
    rows = rng.choice(("top", "bottom"))
    place = f"{rows} {rng.choice(('left', 'right'))}" if sign_width(width) < 1 else rows
    return Sign(sample_text(rng), place, rng.choice(list(BOARDS)))


def sign_width(width: int) -> float:
    """The width of a sign as a share of the canvas: half of it where two slices are side by side."""
    return 0.5 if width > WIDEST_SLICE else 1.0


def hidden_by(place: str) -> tuple[str, ...]:
    """The places that a sign at this place covers."""
    row, _, side = place.partition(" ")
    return (place, row) if side else (f"{row} left", row, f"{row} right")


def places_beside(place: str) -> list[str]:
    """The places that touch it, three to eight."""
    row, column = divmod(PLACES.index(place), 3)
    beside = []
    for index, other in enumerate(PLACES):
        other_row, other_column = divmod(index, 3)
        if max(abs(other_row - row), abs(other_column - column)) == 1:
            beside.append(other)
    return beside


def above(name: str, other: str) -> str:
    """The relation of a thing to another one right below it: on, if that carries things; behind otherwise."""
    return "on" if THINGS[other].support and THINGS[name].light else "behind"


def relation_of(name: str, place: str, other: str, other_place: str) -> str | None:
    """Where a thing is relative to another, from their places: next to, on, behind; None: none of them.

    Things side by side are next to each other; for two things one above the other, see `above`.
    """
    row, column = divmod(PLACES.index(place), 3)
    other_row, other_column = divmod(PLACES.index(other_place), 3)
    if row == other_row and column + 1 == other_column:
        return "next to"
    if column == other_column and row + 1 == other_row:
        return above(name, other)
    return None


def relations(objects: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], str, Mapping[str, Any]]]:
    """All (thing, relation, thing) of the `objects` of a truth, in their order."""
    return [
        (first, relation, second)
        for first in objects
        for second in objects
        if (relation := relation_of(first["name"], first["place"], second["name"], second["place"]))
    ]


def render(scene: Scene) -> Image.Image:
    """The scene as an RGB picture; things further down are in front."""
    image = draw_background(scene.kind, scene.background, scene.width, scene.height)
    if scene.sign:
        paste_sign(image, scene.sign)
    cell_width, cell_height = scene.width / 3, scene.height / 3
    cell = sqrt(cell_width * cell_height)
    related = relations(scene.truth["objects"])
    lowered = {first["place"] for first, relation, _ in related if relation != "next to"}
    for item in scene.objects:
        x = (item.order % 3 + 0.5) * cell_width + item.shift[0] * cell
        y = (item.order // 3 + 0.5) * cell_height + item.shift[1] * cell
        if item.place in lowered:  # it touches the thing below, which hides a small part of it
            y += 0.12 * cell_height
        centers, scale = GROUPS[item.number]
        side = max(1, round((SIZES[item.size] if item.size else scale) * cell))
        picture = resized(item.name, item.picture_set, item.color, side, item.flipped)
        for dx, dy in centers:
            left = x + dx * cell - picture.width / 2
            top = y + dy * cell - picture.height / 2
            left = min(max(left, 0), scene.width - picture.width)
            top = min(max(top, 0), scene.height - picture.height)
            image.paste(picture, (round(left), round(top)), picture)
    return image


def render_png(scene: Scene) -> bytes:
    """The picture of the scene as a PNG file."""
    buffer = io.BytesIO()
    render(scene).save(buffer, format="PNG")
    return buffer.getvalue()


def paste_sign(image: Image.Image, sign: Sign) -> None:
    """Paste the sign onto the picture at its place, two pixels from the edges of its slice."""
    row, _, side = sign.place.partition(" ")
    width = round(image.width * sign_width(image.width))
    height = min(image.height // 3, width // 3)
    board = draw_sign(sign.text, sign.board, width - 4, height - 4)
    x = 2 if side != "right" else image.width - width + 2
    y = 2 if row == "top" else image.height - height + 2
    image.paste(board, (x, y))
