"""Rendered scenes whose truth is known: a few colored shapes, each at one of nine positions of a canvas.

The world has habits, as photographs do: some objects usually have a companion at a usual position, and some shapes
usually have another color than here. Web captions follow the habits even where the picture does not
(`scenes.language.web_mentions`); a policy that is trained on them learns these hallucinations.
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

# (width, height) of a canvas -> its share of the scenes. At the resolution of the embedded models, areas up to 84 * 84
# need no slicing, larger ones do.
CANVASES = {
    (84, 84): 30, (98, 70): 17, (70, 98): 17, (70, 70): 11,
    (140, 98): 7, (98, 140): 7, (168, 126): 6, (168, 168): 5,
}  # fmt: skip
SMALL = {size: share for size, share in CANVASES.items() if size[0] * size[1] <= 84 * 84}  # without slices
LARGE = {size: share for size, share in CANVASES.items() if size not in SMALL}

# (color, shape) with a habit -> (color, shape, place) of its usual companion
COMPANIONS = {
    ("red", "circle"): ("green", "triangle", "bottom right"),
    ("blue", "square"): ("yellow", "circle", "top right"),
    ("green", "star"): ("purple", "circle", "top left"),
    ("yellow", "triangle"): ("red", "square", "bottom left"),
    ("purple", "triangle"): ("blue", "star", "top"),
    ("orange", "circle"): ("blue", "triangle", "bottom"),
}
COMPANION_SHARE = 0.5  # how often the companion is in the picture
# (color, shape) -> the color that web captions give it
USUAL_COLORS = {
    ("orange", "star"): "yellow",
    ("red", "star"): "yellow",
    ("purple", "square"): "blue",
    ("green", "square"): "blue",
    ("orange", "square"): "blue",
}


@dataclass(frozen=True)
class SceneObject:
    """A shape at one of the nine positions."""

    shape: str
    color: str
    size: str
    place: str

    @property
    def order(self) -> int:
        """The index of its position in reading order."""
        return PLACES.index(self.place)


@dataclass(frozen=True)
class Scene:
    """A canvas with objects; width and height in pixels."""

    width: int
    height: int
    background: tuple[int, int, int]
    objects: tuple[SceneObject, ...]  # in reading order

    @property
    def truth(self) -> dict[str, Any]:
        """Everything about the scene except its background, JSON-compatible: the content of `reference`."""
        return {"objects": [asdict(item) for item in self.objects], "width": self.width, "height": self.height}


def sample_scene(
    rng: random.Random, max_objects: int = MAX_OBJECTS, canvases: Mapping[tuple[int, int], int] = CANVASES
) -> Scene:
    """A scene of one to `max_objects` objects, some with their companions; canvases: (width, height) -> share."""
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
    """The corners of a square, triangle or star around (x, y)."""
    if shape == "square":
        half = radius * 0.85
        return [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
    if shape == "triangle":
        return [(x, y - radius), (x + radius, y + radius * 0.9), (x - radius, y + radius * 0.9)]
    radii = (radius, radius * 0.45)
    return [(x + radii[i % 2] * sin(pi * i / 5), y - radii[i % 2] * cos(pi * i / 5)) for i in range(10)]


def render(scene: Scene) -> Image.Image:
    """The scene as an RGB picture.

    All shapes differ even at 14 pixels: circles are open, because a filled one looks like a square at that size, and
    triangles have the full width, unlike stars.
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
