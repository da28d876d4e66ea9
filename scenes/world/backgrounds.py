"""Backgrounds of the kinds of scene: a kitchen, a room, a street, a field; simple, each a bit different."""

import random

from PIL import Image, ImageDraw

Color = tuple[int, int, int]

# kind -> colors of (upper part, lower part), each as a range of (from, to)
COLORS: dict[str, tuple[tuple[Color, Color], tuple[Color, Color]]] = {
    "kitchen": (((226, 236, 236), (246, 246, 238)), ((196, 202, 206), (222, 222, 218))),
    "room": (((240, 226, 200), (250, 240, 226)), ((190, 150, 110), (214, 178, 140))),
    "street": (((206, 222, 236), (228, 232, 238)), ((140, 142, 148), (170, 170, 174))),
    "field": (((176, 214, 242), (206, 230, 248)), ((150, 196, 110), (186, 218, 140))),
}


def draw_background(kind: str, seed: int, width: int, height: int) -> Image.Image:
    """The background [height, width], RGB; the same for a seed."""
    rng = random.Random(seed)
    (upper, lower) = (tuple(rng.randint(*pair) for pair in zip(*part, strict=True)) for part in COLORS[kind])
    horizon = round(height * rng.uniform(0.3, 0.6))
    image = Image.new("RGB", (width, height), upper)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, horizon, width, height), fill=lower)
    line = tuple(max(0, value - 14) for value in upper)
    if kind == "kitchen":
        step = max(8, round(height * rng.uniform(0.14, 0.22)))
        for y in range(horizon % step, horizon, step):
            draw.line((0, y, width, y), fill=line)
        for x in range(rng.randrange(step), width, step):
            draw.line((x, 0, x, horizon), fill=line)
    elif kind == "room":
        floor = tuple(max(0, value - 14) for value in lower)
        step = max(5, round(height * rng.uniform(0.08, 0.14)))
        for y in range(horizon + step, height, step):
            draw.line((0, y, width, y), fill=floor)
    elif kind == "street":
        y = (horizon + height) // 2
        dash = max(4, width // 10)
        for x in range(rng.randrange(dash), width, 2 * dash):
            draw.line((x, y, x + dash, y), fill=(226, 226, 216), width=max(1, height // 60))
    else:
        draw.ellipse((-width // 2, horizon - height // 12, width // 2, height), fill=lower)
    return image
