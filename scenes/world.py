"""Rendered scenes whose truth is known: a few coloured shapes, each in one of nine places of a canvas.

The world has habits, as photographs do: some objects usually come with a companion in a usual place, and some things
usually have another colour than they have here. Web captions follow the habits even where the picture does not
(`scenes.language.web_caption`); that is what a policy trained on them learns to hallucinate.
"""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import cos, pi, sin, sqrt
from typing import Any

from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle", "star")
COLORS = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (38, 84, 214),
    "yellow": (245, 205, 30),
    "purple": (140, 50, 180),
    "orange": (245, 130, 20),
}
SIZES = {"small": 0.3, "large": 0.41}  # radius in thirds of the square root of the canvas: the same on every canvas
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
MAX_OBJECTS = 4

# canvases as (width, height) with their share of the scenes; areas up to 84 * 84 need no slicing at the embedded
# models' resolution, the others do
CANVASES = {
    (84, 84): 30, (98, 70): 17, (70, 98): 17, (70, 70): 11,
    (140, 98): 7, (98, 140): 7, (168, 126): 6, (168, 168): 5,
}  # fmt: skip
SMALL = {size: share for size, share in CANVASES.items() if size[0] * size[1] <= 84 * 84}  # seen whole, without slices
LARGE = {size: share for size, share in CANVASES.items() if size not in SMALL}

# (colour, shape) that has a habit -> the (colour, shape, place) that usually comes with it
COMPANIONS = {
    ("red", "circle"): ("green", "triangle", "bottom right"),
    ("blue", "square"): ("yellow", "circle", "top right"),
    ("green", "star"): ("purple", "circle", "top left"),
    ("yellow", "triangle"): ("red", "square", "bottom left"),
    ("purple", "triangle"): ("blue", "star", "top"),
    ("orange", "circle"): ("blue", "triangle", "bottom"),
}
COMPANION_SHARE = 0.5  # how often the companion is really there
# (colour, shape) -> the colour such a shape usually has
USUAL_COLORS = {
    ("orange", "star"): "yellow",
    ("red", "star"): "yellow",
    ("purple", "square"): "blue",
    ("green", "square"): "blue",
    ("orange", "square"): "blue",
}


@dataclass(frozen=True)
class SceneObject:
    shape: str
    color: str
    size: str
    place: str

    @property
    def order(self) -> int:
        return PLACES.index(self.place)


@dataclass(frozen=True)
class Scene:
    width: int
    height: int
    background: tuple[int, int, int]
    objects: tuple[SceneObject, ...]  # in reading order

    @property
    def truth(self) -> dict[str, Any]:
        return {"objects": [asdict(item) for item in self.objects], "width": self.width, "height": self.height}


def sample_scene(
    rng: random.Random, max_objects: int = MAX_OBJECTS, canvases: Mapping[tuple[int, int], int] = CANVASES
) -> Scene:
    """A scene of one to `max_objects` objects, companions among them as the world's habits have it.

    `canvases`: (width, height) -> share.
    """
    width, height = rng.choices(list(canvases), weights=list(canvases.values()))[0]
    tint = rng.randint(232, 255)
    background = (tint, tint, min(255, tint + rng.randint(0, 10)))
    objects: dict[str, SceneObject] = {}
    wanted = rng.randint(1, max_objects)
    while len(objects) < wanted:
        place = rng.choice([place for place in PLACES if place not in objects])
        color, shape = rng.choice(list(COLORS)), rng.choice(SHAPES)
        objects[place] = SceneObject(shape, color, rng.choice(list(SIZES)), place)
        companion = COMPANIONS.get((color, shape))
        if companion and len(objects) < wanted and companion[2] not in objects and rng.random() < COMPANION_SHARE * 1.6:
            objects[companion[2]] = SceneObject(companion[1], companion[0], rng.choice(list(SIZES)), companion[2])
    return Scene(width, height, background, tuple(sorted(objects.values(), key=lambda item: item.order)))


def outline(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Corners of a square, triangle or star around (x, y)."""
    if shape == "square":
        half = radius * 0.85
        return [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
    if shape == "triangle":
        return [(x, y - radius), (x + radius, y + radius * 0.9), (x - radius, y + radius * 0.9)]
    radii = (radius, radius * 0.45)
    return [(x + radii[i % 2] * sin(pi * i / 5), y - radii[i % 2] * cos(pi * i / 5)) for i in range(10)]


def render(scene: Scene) -> Image.Image:
    """The scene as an RGB picture.

    No two shapes look alike at 14 pixels: a full circle is nearly a square there, so circles are open, and a triangle
    is as broad as its size, unlike a star.
    """
    image = Image.new("RGB", (scene.width, scene.height), scene.background)
    draw = ImageDraw.Draw(image)
    cell_width, cell_height = scene.width / 3, scene.height / 3
    for item in scene.objects:
        x, y = (item.order % 3 + 0.5) * cell_width, (item.order // 3 + 0.5) * cell_height
        radius = SIZES[item.size] * sqrt(cell_width * cell_height)
        if item.shape == "circle":
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLORS[item.color])
            hole = radius / 2
            draw.ellipse((x - hole, y - hole, x + hole, y + hole), fill=scene.background)
        else:
            draw.polygon(outline(item.shape, x, y, radius), fill=COLORS[item.color])
    return image
