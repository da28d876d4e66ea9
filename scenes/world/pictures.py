"""The pictures of things, from the sets in assets/pictures, in any of their colors and at any size."""

import io
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from scenes.world.things import THINGS

FOLDER = Path(__file__).parents[2] / "assets" / "pictures"
SETS = ("noto", "fluent")  # every thing has a picture in each
HELD_OUT = "held-out"  # pictures of some things, on which no model was trained
HUES = {"red": 0, "orange": 26, "yellow": 52, "green": 125, "blue": 220, "purple": 285}  # in degrees
MIN_SATURATION = 0.25  # below it a pixel has no hue
HUE_RANGE = 60  # degrees around the main hue of a picture that are recolored


def path_of(name: str, picture_set: str) -> Path:
    return FOLDER / picture_set / f"{name.replace(' ', '_')}.webp"


@cache
def names_with_pictures(sets: tuple[str, ...]) -> tuple[str, ...]:
    """The things that have a picture in each of the sets."""
    return tuple(name for name in THINGS if all(path_of(name, one).exists() for one in sets))


@cache
def _encoded(name: str, picture_set: str) -> bytes:
    return path_of(name, picture_set).read_bytes()


@lru_cache(maxsize=512)
def picture(name: str, picture_set: str, color: str | None) -> Image.Image:
    """The picture of a thing, RGBA, in the color. Errors: FileNotFoundError if the set has no picture of it."""
    image = Image.open(io.BytesIO(_encoded(name, picture_set))).convert("RGBA")
    return recolored(image, color) if color else image


def recolored(image: Image.Image, color: str) -> Image.Image:
    """The picture with its main hue, that of most saturated pixels, turned to the hue of the color."""
    alpha = image.getchannel("A")
    hsv = np.asarray(image.convert("RGB").convert("HSV"), dtype=np.float32) / 255
    hue, saturation, value = 360 * hsv[..., 0], hsv[..., 1], hsv[..., 2]
    has_hue = (saturation > MIN_SATURATION) & (np.asarray(alpha) > 128)
    counts, edges = np.histogram(hue[has_hue], bins=36, range=(0, 360))
    main = edges[counts.argmax()] + 5
    distance = np.abs((hue - main + 180) % 360 - 180)
    changed = (saturation > MIN_SATURATION) & (distance < HUE_RANGE)
    hue = np.where(changed, HUES[color], hue)
    saturation = np.where(changed, np.maximum(saturation, 0.75), saturation)
    lightest = 0.95 if color in ("yellow", "orange") else 0.8
    if changed.any():  # else a dark picture would be brown where it should be orange
        value = np.where(changed, np.clip(value * lightest / max(float(np.median(value[changed])), 0.05), 0, 1), value)
    rgb = Image.fromarray((np.stack([hue / 360, saturation, value], -1) * 255).round().astype(np.uint8), "HSV")
    result = rgb.convert("RGB")
    result.putalpha(alpha)
    return result


@lru_cache(maxsize=8192)
def resized(name: str, picture_set: str, color: str | None, side: int, flipped: bool) -> Image.Image:
    """The picture with a longest side of `side` pixels, RGBA; shared by all callers, who must not change it."""
    image = picture(name, picture_set, color)
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BICUBIC)
    return small.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flipped else small
