"""Images in every common format, broken ones too, as files and as tables."""

import io
import struct
import zlib
from collections.abc import Container
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import model.images  # noqa: F401  Pillow reads and writes HEIF with it
from generation.prompts import build_prompts
from generation.sources import read_pictures
from rlaif.config import DataSection

CORNERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))  # top left, top right, bottom left, bottom right
# Orientation -> how the upright image was turned before it was stored: the inverse of the EXIF table.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert(mode)


def upright(width: int = 96, height: int = 64) -> Image.Image:
    """An image with a color in each quarter."""
    image = Image.new("RGB", (width, height))
    for index, color in enumerate(CORNERS):
        image.paste(color, (index % 2 * width // 2, index // 2 * height // 2, width, height))
    return image


def turned(
    kind: str, orientation: int, as_bytes: bool = True, size: tuple[int, int] = (96, 64), **options: Any
) -> bytes:
    """`upright`, stored turned and with its orientation. as_bytes: of its EXIF; HEIF then also gets a rotation box."""
    image, exif = upright(*size), Image.Exif()
    exif[0x0112] = orientation
    if (turn := STORED[orientation]) is not None:
        image = image.transpose(turn)
    return encoded(image, kind, exif=exif.tobytes() if as_bytes else exif, **options)


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The middle of each quarter, rounded to 0 or 255."""
    width, height = image.size
    middles = [(x * width // 4, y * height // 4) for y in (1, 3) for x in (1, 3)]
    pixels: list[Any] = [image.getpixel(middle) for middle in middles]
    return [tuple(255 * (value > 127) for value in pixel) for pixel in pixels]


def good_image(index: int) -> bytes:
    return encoded(photo(40 + index, 40), "PNG")


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_file(
    width: int, height: int, depth: int, color: int, pixels: bytes, *before: bytes, after: bytes = b""
) -> bytes:
    """A PNG by hand. color: 0 gray, 2 RGB. pixels: each row with its filter byte. before, after: chunks around them."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *before, chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bomb() -> bytes:
    """A PNG of a kilobyte whose header claims 60,000 x 60,000 pixels."""
    return png_file(60_000, 60_000, 1, 0, bytes(10**6))


def text_bomb(size: int = 2 * 10**8, behind: bool = False) -> bytes:
    """A PNG with a comment of 200 MB, compressed, in front of its pixels or behind them."""
    data = encoded(photo(20, 20), "PNG")
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(size), 9))
    place = len(data) - 12 if behind else 33  # before the end chunk, or after the header
    return data[:place] + text + data[place:]


def naively(data: bytes) -> Image.Image:
    """An image as other tools decode it."""
    with Image.open(io.BytesIO(data)) as file:
        return file.convert("RGB")


def animated(format: str) -> bytes:
    frames = [Image.new("RGB", (30, 20), color) for color in ("red", "green", "blue")]
    return encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=50)


def with_exif(exif: bytes) -> bytes:
    return encoded(photo(30, 20), "JPEG", exif=exif)


def good_photos() -> dict[str, bytes]:
    rotated = Image.Exif()
    rotated[0x0112] = 6
    palette = photo(90, 60).quantize(16)
    frames = [photo(40, 40), photo(40, 40).rotate(90)]
    return {
        "a/rgb.jpg": encoded(photo(320, 240), "JPEG"),
        "a/gray.JPG": encoded(photo(100, 300, "L"), "JPEG"),
        "a/cmyk.jpeg": encoded(photo(120, 80, "CMYK"), "JPEG"),
        "a/rotated.jpg": encoded(photo(200, 100), "JPEG", exif=rotated),
        "alpha.png": encoded(photo(64, 64, "RGBA"), "PNG"),
        "alpha-gray.png": encoded(photo(64, 64, "LA"), "PNG"),
        "bits.png": encoded(photo(64, 64, "1"), "PNG"),
        "deep.png": encoded(photo(64, 64, "I;16"), "PNG"),
        "palette.png": encoded(palette, "PNG"),
        "palette-alpha.png": encoded(palette, "PNG", transparency=0),
        "tiny.png": encoded(photo(30, 30), "PNG"),
        "strip.png": encoded(photo(3, 900), "PNG"),
        "w.webp": encoded(photo(150, 100), "WEBP"),
        "w-alpha.webp": encoded(photo(151, 100, "RGBA"), "WEBP"),
        "moving.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "b.bmp": encoded(photo(50, 50), "BMP"),
        "t.tiff": encoded(photo(51, 50), "TIFF"),
        "no-suffix": encoded(photo(52, 50), "PNG"),
        "40-megapixels.jpg": encoded(photo(8000, 5000), "JPEG", quality=30),
    }


def bad_photos() -> dict[str, tuple[bytes, str]]:
    jpeg, avif = encoded(photo(320, 240), "JPEG"), encoded(photo(64, 64), "AVIF")
    bomb = b"P6 20000 20000 255\n"
    return {
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "broken_image"),
        "truncated.avif": (avif[: len(avif) - 40], "broken_image"),
        "text.jpg": (b"this is no picture", "unreadable_image"),
        "empty.png": (b"", "empty_image"),
        "bomb.ppm": (bomb, "image_too_large"),
    }


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def folder_data(folder: Path, instructions: str, **more: Any) -> DataSection:
    return DataSection(source="folder", path=str(folder), instructions=instructions, **more)


def parquet_file(folder: Path, images: pa.Array, questions: list[str | None], name: str = "d.parquet") -> DataSection:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": list(range(len(questions))), "pic": images, "ask": questions}), folder / name)
    return DataSection(source="parquet", path=str(folder / name), image_column="pic", question_column="ask")


def as_bytes(images: list[bytes | None], folder: Path) -> pa.Array:
    return pa.array(images, pa.binary())


def collect(
    data: DataSection, done: Container[str] = frozenset(), round: int = 1
) -> tuple[list[dict[str, Any]], list[tuple[str, str, str]]]:
    """The prompts of a source, and its drops: (row_id, reason, detail)."""
    drops: list[tuple[str, str, str]] = []
    pictures = read_pictures(data, 0, round)
    return list(build_prompts(pictures, data, done, lambda *row: drops.append(row), round)), drops
