"""The one path from encoded image bytes to pixels, used for sampling, labelling and training alike."""

import io

from PIL import Image, ImageOps

MAX_PIXELS = 100_000_000  # photographs of up to 40 megapixels pass with room to spare; a decompression bomb does not


def open_image(data: bytes) -> Image.Image:
    """Decode to RGB as a person would see it: EXIF rotation applied, transparency laid on white, first frame of an animation.

    Errors:
        ValueError: the bytes are no image Pillow can decode, are cut short, or hold more than MAX_PIXELS pixels; the message says which.
    """
    if not data:
        raise ValueError("empty image: 0 bytes")
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"image too large: {image.width}x{image.height} pixels, at most {MAX_PIXELS} are decoded")
        image.load()
        image = ImageOps.exif_transpose(image)
    except Image.UnidentifiedImageError:
        raise ValueError("unreadable image: the bytes are in no format Pillow knows") from None
    except Image.DecompressionBombError as error:  # no OSError
        raise ValueError(f"image too large: {error}") from None
    except (OSError, SyntaxError, EOFError) as error:  # Pillow raises SyntaxError for broken PNG chunks
        raise ValueError(f"broken image: {error}") from None
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    elif image.mode.startswith(("I", "F")):  # 16-bit greyscale: Pillow's own convert clips instead of scaling
        low, high = image.getextrema()
        image = (
            image.point(lambda value: value * (255.0 / max(high, 1)) if high > 255 else value).convert("L")
            if low >= 0
            else image
        )
    return image.convert("RGB")
