"""Decode image files; sampling, labeling and training all do it here, so that they get the same pixels.

Other tools open an image file and convert it to RGB: they ignore EXIF rotation, put transparency on black and clip 16
bits. `plain_file` gives a file that they decode to the same pixels as `open_image`.
"""

import io
import warnings
from typing import Any

import numpy as np
import pillow_heif
from PIL import ExifTags, Image, ImageOps

MAX_PIXELS = 100_000_000  # enough for photographs; a decompression bomb has more
# Pillow reads more formats, some of which run other programs (EPS) or accept any bytes (TGA).
FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
PLAIN_FORMATS = ("JPEG", "PNG", "WEBP")  # every tool reads these
JPEG_QUALITY = 95

PNG_NOTES = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # texts and color profiles, beside the pixels
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEIF_ROTATIONS = (b"\0\0\0\x09irot", b"\0\0\0\x09imir")  # the boxes of a rotation and of a reflection, with their size
DNG_VERSION = 0xC612
SUBFILE_TYPE, REDUCED_RESOLUTION = 0x00FE, 1

pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
# Pillow warns at some number of pixels and fails at twice that; the limit that counts is the one of `open_image`.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class _Refused(ValueError):
    """An image that decodes, but not to what it shows."""


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode to RGB as viewers display it: EXIF rotation applied, transparency over white, the first frame.

    A JPEG of more than `max_pixels`, up to twice as many, is decoded at half its width and height.

    Errors:
        ValueError: the bytes are not in one of FORMATS, truncated or damaged, have values without a known scale, or
        more pixels than that. The message starts with "empty image", "unreadable image", "broken image" or "image too
        large".
    """
    if not data:
        raise ValueError("empty image: 0 bytes")
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)
    try:
        return _decode_pixels(data, max_pixels)
    except _Refused:
        raise
    except Image.UnidentifiedImageError:
        raise ValueError(f"unreadable image: the format is not one of {', '.join(FORMATS)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"image too large: {error}") from None
    except Exception as error:  # damaged bytes can raise almost anything in a decoder
        raise ValueError(f"broken image: {error or type(error).__name__}") from None


def plain_file(data: bytes, image: Image.Image | None = None) -> tuple[bytes, str]:
    """A file that every tool decodes to the pixels of `open_image`, and its format, one of PLAIN_FORMATS.

    A file that is plain already is returned as it is. Any other becomes a PNG of `open_image(data)`.

    Args:
        image: what `open_image` returned for `data`, if nothing has seen it yet and everything will see the plain file.
            Then a photograph (JPEG, HEIF, AVIF, JPEG 2000, lossy WebP) becomes a JPEG, a quarter as large as a PNG and
            not equal to `image` in every bit; an image of more than MAX_PIXELS is halved until it has fewer.
    Errors:
        ValueError: as `open_image`, unless the file is plain.
    """
    if (kind := plain_format(data)) is not None:
        return data, kind
    kind, options = "PNG", {}
    if image is None:
        image = open_image(data)
    elif _is_photograph(data):
        kind, options = "JPEG", {"quality": JPEG_QUALITY, "subsampling": 0}
    while image.width * image.height > MAX_PIXELS:
        image = image.reduce(2)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue(), kind


def plain_format(data: bytes) -> str | None:
    """The format, one of PLAIN_FORMATS, of a file that every tool decodes alike; None for any other. Reads the header.

    Such a file has 8 bits, one frame, at most MAX_PIXELS, no transparency, and no rotation beside its pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=PLAIN_FORMATS) as file:
            kind = "JPEG" if file.format == "MPO" else str(file.format)  # MPO: a JPEG with more images behind it
            plain = (
                file.mode in (("1", "L", "P", "RGB") if kind == "PNG" else ("L", "RGB"))
                and "transparency" not in file.info
                and (file.format == "MPO" or getattr(file, "n_frames", 1) == 1)
                and file.getexif().get(ExifTags.Base.Orientation, 1) not in range(2, 9)
                and file.width * file.height <= MAX_PIXELS
                and (kind != "PNG" or _png_depth(data) <= 8)
            )
            if plain and kind == "PNG" and _without_notes(data) != data:
                file.load()  # texts behind the pixels, which may be too large, are read last
            return kind if plain else None
    except Exception:  # damaged bytes can raise almost anything in a decoder; `open_image` says what is wrong
        return None


def _decode_pixels(data: bytes, max_pixels: int) -> Image.Image:
    """As `_decode`, but large or damaged texts in a PNG, at which Pillow stops, lose no picture."""
    try:
        return _decode(data, max_pixels)
    except _Refused:
        raise
    except Exception:  # damaged bytes can raise almost anything; without notes to leave out it is raised again
        pixels = _without_notes(data)
        if pixels == data:
            raise
        return _decode(pixels, max_pixels)


def _decode(data: bytes, max_pixels: int) -> Image.Image:
    file = Image.open(io.BytesIO(data), formats=FORMATS)
    pixels = file.width * file.height
    if max_pixels < pixels <= 2 * max_pixels and file.format in ("JPEG", "MPO"):
        file.draft(None, (file.width // 2, file.height // 2))
    elif pixels > max_pixels:
        raise _Refused(
            f"image too large: {file.width}x{file.height} are {pixels:,} pixels, at most {max_pixels:,} are read"
        )
    if file.format == "TIFF":
        _refuse_raw(file)
    if file.format == "HEIF" and not any(box in data for box in HEIF_ROTATIONS):
        # The HEIF plug-in applies these boxes and clears the EXIF orientation, which some programs write instead.
        file.getexif()[ExifTags.Base.Orientation] = file.info.get("original_orientation") or 1
    file.load()
    if file.format == "PNG" and "transparency" in file.info:
        _scale_transparent_color(file, _png_depth(data))
    return _to_rgb(ImageOps.exif_transpose(file), _declared_bits(file))


def _to_rgb(image: Image.Image, bits: int | None) -> Image.Image:
    """bits: of a grayscale value, where its file declares fewer than its type has."""
    if image.mode.startswith("I") or image.mode == "F":
        return _gray_to_rgb(image, bits)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image.convert("RGB")


def _gray_to_rgb(image: Image.Image, bits: int | None) -> Image.Image:
    """16-bit grayscale, which Pillow's convert would clip instead of scaling."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        raise _Refused("unreadable image: floating-point values, whose white is not known; convert it to 8 bits")
    if low < 0 or high > 65535:
        raise _Refused(f"unreadable image: values from {low} to {high}, expected 0 to 65535; convert it to 8 bits")
    if bits is not None:
        white = 2**bits - 1
    elif high <= 255:
        white = 255  # 8 bits in a larger type
    elif high >= 65536 // 4:
        white = 65535
    else:
        raise _Refused(
            f"unreadable image: 16-bit values up to {high} only, so its white is not known (10 to 14 bits?); "
            "convert it to 8 bits"
        )
    gray = (values.astype(np.float32) * (255 / white)).clip(0, 255).astype(np.uint8)
    if (transparent := image.info.get("transparency")) is not None:
        gray[values == transparent] = 255
    return Image.fromarray(gray).convert("RGB")


def _refuse_raw(file: Any) -> None:
    """Refuse a camera's raw file: as TIFF it shows a small preview, or undeveloped values."""
    if DNG_VERSION in file.tag_v2 or file.tag_v2.get(SUBFILE_TYPE, 0) & REDUCED_RESOLUTION:
        raise _Refused("unreadable image: a camera's raw file, of which only a preview decodes; convert it to JPEG")


def _declared_bits(file: Any) -> int | None:
    """9 to 15 bits of grayscale, where a TIFF declares them."""
    bits = file.tag_v2.get(ExifTags.Base.BitsPerSample, (8,)) if file.format == "TIFF" else (8,)
    return int(bits[0]) if len(bits) == 1 and 8 < bits[0] < 16 else None


def _scale_transparent_color(file: Image.Image, depth: int) -> None:
    """Pillow expands values of 2 and 4 bits to 8, and cuts colors of 16 bits, but leaves the transparent one."""
    if file.mode == "L" and depth < 8:
        file.info["transparency"] *= 255 // (2**depth - 1)
    if file.mode == "RGB" and depth == 16:
        raise _Refused("unreadable image: 16-bit colors with a transparent one, which 8 bits cannot tell from others")


def _png_depth(data: bytes) -> int:
    """Bits of a value, from the header chunk, which comes first."""
    return data[24]


def _without_notes(data: bytes) -> bytes:
    """A PNG without its PNG_NOTES; other bytes as they are."""
    if not data.startswith(PNG_SIGNATURE):
        return data
    kept, start = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")  # 12: length, type, checksum
        if data[start + 4 : start + 8] not in PNG_NOTES:
            kept.append(data[start:end])
        start = end
    return b"".join(kept)


def _is_photograph(data: bytes) -> bool:
    """Whether the file is compressed with loss."""
    with Image.open(io.BytesIO(_without_notes(data)), formats=FORMATS) as file:
        if file.format == "WEBP":
            return b"VP8L" not in data
        return file.format in ("AVIF", "HEIF", "JPEG", "JPEG2000", "MPO")
