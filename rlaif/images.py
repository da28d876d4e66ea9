"""The one path from encoded image bytes to pixels, used for sampling, labelling and training alike.

It stands twice, in rlaif/ and in model/, which import nothing of each other; a test keeps the two equal.
"""

import io

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 100_000_000  # photographs of up to 40 megapixels pass with room to spare; a decompression bomb does not
# What pictures are kept in. Pillow knows more, some of which run other programs (EPS) or accept any bytes (TGA).
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


def open_image(data: bytes) -> Image.Image:
    """Decode to RGB as a person would see it: EXIF rotation applied, transparency on white, the first frame of many.

    Errors:
        ValueError: the bytes are in none of FORMATS, are cut short or damaged, or hold more than MAX_PIXELS pixels; the
        message says which.
    """
    if not data:
        raise ValueError("empty image: 0 bytes")
    try:
        file = Image.open(io.BytesIO(data), formats=FORMATS)
        if file.width * file.height <= MAX_PIXELS:
            return _as_seen(file)
    except Image.UnidentifiedImageError:
        raise ValueError(f"unreadable image: the bytes are none of {', '.join(FORMATS)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"image too large: {error}") from None
    except Exception as error:  # no list is complete: decoders raise whatever damaged bytes lead them into
        raise ValueError(f"broken image: {error or type(error).__name__}") from None
    raise ValueError(f"image too large: {file.width}x{file.height} pixels, at most {MAX_PIXELS} are decoded")


def _as_seen(file: Image.Image) -> Image.Image:
    file.load()
    image = ImageOps.exif_transpose(file)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    elif image.mode.startswith("I"):  # 16-bit greyscale, which Pillow's own convert clips instead of scaling
        values = np.asarray(image, dtype=np.float32)
        image = Image.fromarray((values / (257 if values.max() > 255 else 1)).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")
