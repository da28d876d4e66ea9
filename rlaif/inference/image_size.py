"""Smaller images for a model with `max_pixels`: of any architecture, here and at an endpoint.

Most models encode a photograph at its own size: 12 megapixels are 15,000 tokens of Qwen2.5-VL. Processors limit that
under many names, some silently ignore what they do not know, and an endpoint has none of them.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def scale_down(image: "Image.Image", max_pixels: int | None) -> "Image.Image":
    """The image itself if it has at most `max_pixels` pixels (null: no limit), else a smaller one in its shape."""
    if max_pixels is None or image.width * image.height <= max_pixels:
        return image
    from PIL import Image

    return image.resize(scaled_size(image.width, image.height, max_pixels), Image.Resampling.LANCZOS)


def scaled_size(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """The largest (width, height) in the same shape, up to rounding down, with at most `max_pixels` pixels."""
    scale = math.sqrt(max_pixels / (width * height))
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    return min(width, max_pixels), min(height, max_pixels)  # where the other side was rounded up to 1
