"""The one path from encoded image bytes to pixels, used for sampling, labelling and training alike."""

import io

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 100_000_000  # photographs of up to 40 megapixels pass with room to spare; a decompression bomb does not


def open_image(data: bytes) -> Image.Image:
    """Decode to RGB as a person would see it: EXIF rotation applied, transparency on white, the first frame of many.

    Errors:
        ValueError: the bytes are no image Pillow can decode, are cut short, or hold more than MAX_PIXELS pixels; the
        message says which.
    """
    if not data:
        raise ValueError("empty image: 0 bytes")
    try:
        file = Image.open(io.BytesIO(data))
        if file.width * file.height > MAX_PIXELS:
            raise ValueError(f"image too large: {file.width}x{file.height} pixels, at most {MAX_PIXELS} are decoded")
        file.load()
        image = ImageOps.exif_transpose(file)
    except Image.UnidentifiedImageError:
        raise ValueError("unreadable image: the bytes are in no format Pillow knows") from None
    except Image.DecompressionBombError as error:  # no OSError
        raise ValueError(f"image too large: {error}") from None
    except (OSError, SyntaxError, EOFError, RuntimeError, AttributeError) as error:  # what its decoders raise
        raise ValueError(f"broken image: {error}") from None
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    elif image.mode.startswith("I"):  # 16-bit greyscale, which Pillow's own convert clips instead of scaling
        values = np.asarray(image, dtype=np.float32)
        image = Image.fromarray((values / (257 if values.max() > 255 else 1)).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")
