"""Rendered text for OCR data (paper section 4.1): words and numbers in several fonts, sizes, colors and positions."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFont

from scenes.world import CANVASES

WORDS = (
    "STOP", "EXIT", "OPEN", "SALE", "TAXI", "BUS", "CAFE", "BANK", "MENU", "ZOO",
    "PARK", "HOTEL", "SHOP", "FREE", "SLOW", "ONE WAY", "PULL", "PUSH", "LIFT", "GATE",
)  # fmt: skip
FACES = ("aileron", "sans", "italic", "uni")  # of Pillow; of OpenCV: Rubik, Rubik Italic, WenQuanYi Micro Hei
REGULAR, BOLD = 400, 700
ASPECTS = (("words",), ("height",), ("weight", "slant"), ("width", "canvas_height"), ("ink", "paper"), ("face",))
INSTRUCTIONS = ("What does the text say?", "Read the text.", "Which words are written here?")


@dataclass(frozen=True)
class Text:
    """A line of text and its look; height and weight (added to strokes) in pixels, slant: shift per pixel of height."""

    words: str
    height: int
    weight: int
    slant: float
    width: int
    canvas_height: int
    ink: tuple[int, int, int]
    paper: tuple[int, int, int]
    position: tuple[float, float]  # share of the free space: 0 left or top, 1 right or bottom
    face: str = FACES[0]


def sample_words(rng: random.Random) -> str:
    return rng.choice(WORDS) if rng.random() < 0.7 else str(rng.randint(10, 999))


def sample_text(rng: random.Random, canvases: Mapping[tuple[int, int], int] = CANVASES) -> Text:
    width, height = rng.choices(list(canvases), weights=list(canvases.values()))[0]
    words = sample_words(rng)
    dark, light = rng.randint(0, 90), rng.randint(180, 255)
    ink, paper = ((dark, rng.randint(0, 90), rng.randint(0, 90)), (light, light, light))
    if rng.random() < 0.3:
        ink, paper = paper, ink
    position = (rng.random(), rng.random())
    size, weight, slant = rng.randint(14, 28), rng.randint(0, 1), rng.choice([0, 0, 0.25])
    return Text(words, size, weight, slant, width, height, ink, paper, position, rng.choice(FACES))


def simplify(text: Text, difficulty: float, rng: random.Random) -> Text:
    """The text with each of ASPECTS simplified, except for a share `difficulty` of them; its position stays.

    Plain is a word, not a number, in black on white, in the first font and a medium size, on a small canvas.
    """
    plain = Text(rng.choice(WORDS), rng.randint(18, 26), 0, 0, 84, 84, (0, 0, 0), (255, 255, 255), text.position)
    easy = [name for aspect in ASPECTS if rng.random() >= difficulty for name in aspect]
    return replace(text, **{name: getattr(plain, name) for name in easy})


def render_text(text: Text) -> Image.Image:
    """The text as an RGB picture; a line that is too wide for its canvas gets smaller until it fits."""
    height = text.height
    while True:
        line = draw_line(text, height)
        lean = text.slant * (line.height - 2)
        size = (round(line.width + lean), line.height)
        if size[0] <= text.width and size[1] <= text.canvas_height:
            break
        height -= 1
    if text.slant:
        line = line.transform(size, Image.Transform.AFFINE, (1, text.slant, -lean, 0, 1, 0), Image.Resampling.BICUBIC)
    image = Image.new("RGB", (text.width, text.canvas_height), text.paper)
    corner = (
        round(text.position[0] * (text.width - size[0])),
        round(text.position[1] * (text.canvas_height - size[1])),
    )
    image.paste(Image.new("RGB", size, text.ink), corner, line)
    return image


def draw_line(text: Text, height: int) -> Image.Image:
    """The words without slant, white on black, with a margin of one pixel."""
    if text.face == FACES[0]:
        font = ImageFont.load_default(height)
        left, top, right, bottom = font.getbbox(text.words, stroke_width=text.weight)
        line = Image.new("L", (round(right - left) + 2, round(bottom - top) + 2))
        ImageDraw.Draw(line).text((1 - left, 1 - top), text.words, fill=255, font=font, stroke_width=text.weight)
        return line
    import cv2  # deferred so that --help stays fast
    import numpy as np

    canvas = np.zeros((3 * height, (len(text.words) + 2) * height), np.uint8)
    weight = BOLD if text.weight else REGULAR
    cv2.putText(canvas, text.words, (height, 2 * height), 255, cv2.FontFace(text.face), height, weight)
    line = Image.fromarray(canvas)
    left, top, right, bottom = line.getbbox() or (0, 0, 0, 0)
    return line.crop((left - 1, top - 1, right + 1, bottom + 1))
