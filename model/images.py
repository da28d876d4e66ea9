"""Decode image files; sampling, labeling and training all do it here, so that they get the same pixels."""

import io

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 100_000_000  # enough for photographs; a decompression bomb has more
# Pillow reads more formats, some of which run other programs (EPS) or accept any bytes (TGA).
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


def open_image(data: bytes) -> Image.Image:
    """Decode to RGB as viewers display it: EXIF rotation applied, transparency over white, the first frame.

    Errors:
        ValueError: the bytes are not in one of FORMATS, truncated or damaged, or have more than MAX_PIXELS pixels. The
        message starts with "empty image", "unreadable image", "broken image" or "image too large".
    """
    if not data:
        raise ValueError("empty image: 0 bytes")
    try:
        file = Image.open(io.BytesIO(data), formats=FORMATS)
        if file.width * file.height <= MAX_PIXELS:
            return _to_rgb(file)
    except Image.UnidentifiedImageError:
        raise ValueError(f"unreadable image: the format is not one of {', '.join(FORMATS)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"image too large: {error}") from None
    except Exception as error:  # damaged bytes can raise almost anything in a decoder
        raise ValueError(f"broken image: {error or type(error).__name__}") from None
    raise ValueError(f"image too large: {file.width}x{file.height} pixels, at most {MAX_PIXELS} are decoded")


def _to_rgb(file: Image.Image) -> Image.Image:
    file.load()
    image = ImageOps.exif_transpose(file)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    elif image.mode.startswith("I"):  # 16-bit grayscale: Pillow's convert clips instead of scaling
        values = np.asarray(image, dtype=np.float32)
        image = Image.fromarray((values / (257 if values.max() > 255 else 1)).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")
