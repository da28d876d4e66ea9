"""Decoding: what an image file shows, whatever its format, and the plain file that other tools decode alike."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from model.images import MAX_PIXELS, open_image, plain_file, plain_format
from tests.support.photographs import (
    CORNERS,
    STORED,
    chunk,
    corners,
    encoded,
    naively,
    photo,
    png_file,
    text_bomb,
    turned,
    upright,
)

WHITE = (255, 255, 255)


def gray(*values: int, depth: int, before: bytes = b"") -> bytes:
    """A PNG of one row."""
    bits = "".join(f"{value:0{depth}b}" for value in values)
    packed = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return png_file(len(values), 1, depth, 0, b"\0" + packed, before)


def tiff(values: list[int], bits: int, packed: bytes, *more: tuple[int, int]) -> bytes:
    """A grayscale TIFF of one row, by hand; more: tags of type SHORT with a number above 279."""
    tags = [(254, 0), (256, len(values)), (257, 1), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1)]
    tags = sorted({**dict(tags), 279: len(packed), **dict(more)}.items())
    directory = b"".join(struct.pack("<HHIHxx", tag, 3, 1, value) for tag, value in tags)
    start = 8 + len(packed) + len(packed) % 2
    body = packed + b"\0" * (len(packed) % 2) + struct.pack("<H", len(tags)) + directory + bytes(4)
    return b"II*\0" + struct.pack("<I", start) + body


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "HEIF"])
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    data = turned(kind, orientation)
    assert (open_image(data).size, corners(open_image(data))) == ((96, 64), list(CORNERS))
    content, _ = plain_file(data, open_image(data))
    assert (naively(content).size, corners(naively(content))) == ((96, 64), list(CORNERS))


@pytest.mark.parametrize("orientation", STORED)
def test_heic_with_an_orientation_in_exif_alone(orientation: int) -> None:
    """The HEIF plug-in for Pillow writes no rotation box for an Exif object, and ignores the orientation on reading."""
    data = turned("HEIF", orientation, as_bytes=False)
    assert b"irot" not in data and b"imir" not in data
    assert (open_image(data).size, corners(open_image(data))) == ((96, 64), list(CORNERS))


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
@pytest.mark.parametrize("brand", [b"mif1", b"msf1"])
def test_the_general_brand_does_not_say_which_codec_it_is(kind: str, brand: bytes) -> None:
    data = turned(kind, 6)
    assert corners(open_image(data[:8] + brand + data[12:])) == list(CORNERS)


def test_transparency_is_over_white() -> None:
    clear = Image.new("RGBA", (6, 4), (200, 0, 0, 0))
    palette = Image.new("P", (6, 4), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    moving = [clear, Image.new("RGBA", (6, 4), (0, 0, 200, 255))]
    for data in (
        encoded(clear, "PNG"),
        encoded(clear.convert("LA"), "PNG"),
        encoded(palette, "PNG", transparency=bytes([255, 0])),
        encoded(palette, "GIF", transparency=1),
        encoded(clear, "WEBP", lossless=True),
        encoded(clear, "AVIF"),
        encoded(clear, "TIFF"),
        encoded(clear.convert("PA"), "TIFF"),
        encoded(clear.resize((64, 64)), "HEIF"),
        encoded(moving[0], "WEBP", save_all=True, append_images=moving[1:], lossless=True),
    ):
        assert open_image(data).getcolors() == [(open_image(data).width * open_image(data).height, WHITE)]
        content, _ = plain_file(data)
        assert naively(content).getcolors() == open_image(data).getcolors()


@pytest.mark.parametrize(
    ("values", "depth", "transparent", "expected"),
    [
        ([0, 1], 1, 0, [255, 255]),
        ([0, 1, 2, 3], 2, 1, [0, 255, 170, 255]),
        ([0, 5, 10, 15], 4, 5, [0, 255, 170, 255]),
        ([0, 5, 100, 255], 8, 5, [0, 255, 100, 255]),
        ([0, 257, 514, 65535], 16, 0, [255, 1, 2, 255]),
        ([0, 257, 25700, 65535], 16, 257, [0, 255, 100, 255]),
        ([0, 257, 25700, 65535], 16, None, [0, 1, 100, 255]),
        ([0, 100, 255], 16, None, [0, 100, 255]),  # 8 bits in a larger type
    ],
)
def test_grayscale_and_its_transparent_value(
    values: list[int], depth: int, transparent: int | None, expected: list[int]
) -> None:
    """Chunk tRNS has the scale of the file: 2 of 3 are 170 of 255."""
    before = b"" if transparent is None else chunk(b"tRNS", struct.pack(">H", transparent))
    data = gray(*values, depth=depth, before=before)
    assert list(open_image(data).convert("L").tobytes()) == expected
    content, kind = plain_file(data)
    assert kind == "PNG" and naively(content).tobytes() == open_image(data).tobytes()
    assert (content == data) == (transparent is None and depth <= 8)


def test_tiff_with_twelve_bits() -> None:
    packed = bytes.fromhex("000 7ff fff 100".replace(" ", ""))
    assert list(open_image(tiff([0, 2047, 4095, 256], 12, packed)).convert("L").tobytes()) == [0, 127, 255, 15]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gray(0, 1000, 4095, depth=16), "16-bit values up to 4095 only"),
        (gray(0, 16383, depth=16), "16-bit values up to 16383 only"),
        (encoded(Image.new("F", (4, 4), 0.5), "TIFF"), "floating-point values"),
        (encoded(Image.fromarray(np.array([[0, 70000]], np.int32)), "TIFF"), "values from 0 to 70000"),
        (encoded(Image.fromarray(np.array([[-5, 70]], np.int32)), "TIFF"), "values from -5 to 70"),
        (png_file(1, 1, 16, 2, bytes(7), chunk(b"tRNS", bytes(6))), "16-bit colors with a transparent one"),
        (tiff([1, 2], 8, b"\1\2", (254, 1)), "a camera's raw file"),
        (tiff([1, 2], 8, b"\1\2", (0xC612, 1)), "a camera's raw file"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "the format is not one of AVIF, BMP"),
    ],
)
def test_what_has_no_known_look_is_unreadable(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^unreadable image: {message}"):
        open_image(data)


def test_scaling_of_16_bits_starts_where_a_quarter_of_the_range_is_used() -> None:
    assert list(open_image(gray(0, 16384, depth=16)).convert("L").tobytes()) == [0, 63]


@pytest.mark.parametrize("behind", [False, True])
def test_texts_do_not_lose_a_png(behind: bool) -> None:
    data = text_bomb(2 * 10**6, behind)
    with pytest.raises(ValueError, match="MAX_TEXT_CHUNK"):
        naively(data)
    assert open_image(data).tobytes() == photo(20, 20).tobytes()
    content, kind = plain_file(data)
    assert kind == "PNG" and len(content) < 1000 and naively(content).tobytes() == photo(20, 20).tobytes()


@pytest.mark.parametrize(
    "note",
    [
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(2 * 10**6))),
        chunk(b"iTXt", b"Workflow\0\1\0\0\0" + zlib.compress(b"x" * 2 * 10**6)),
        chunk(b"tEXt", b"Comment\0hello")[:-4] + b"crc?",
    ],
    ids=["color profile", "compressed text", "checksum"],
)
def test_notes_do_not_lose_a_png(note: bytes) -> None:
    data = encoded(photo(20, 20), "PNG")
    data = data[:33] + note + data[33:]
    with pytest.raises((ValueError, OSError)):
        naively(data)
    assert open_image(data).tobytes() == naively(plain_file(data)[0]).tobytes() == photo(20, 20).tobytes()


def test_small_texts_stay() -> None:
    data = encoded(photo(20, 20), "PNG")
    with_text = data[:33] + chunk(b"tEXt", b"Comment\0hello") + data[33:]
    assert plain_file(with_text) == (with_text, "PNG")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_of_pixels() -> None:
    image = upright(120, 80)
    for kind in ("PNG", "WEBP", "JPEG", "HEIF"):
        assert open_image(encoded(image, kind), 120 * 80).size == (120, 80)
    for kind in ("PNG", "WEBP", "HEIF"):
        with pytest.raises(ValueError, match=r"^image too large: 120x80 are 9,600 pixels, at most 9,599 are read$"):
            open_image(encoded(image, kind), 9599)
    halved = open_image(encoded(image, "JPEG"), 9599)
    assert (halved.size, corners(halved)) == ((60, 40), list(CORNERS))
    assert open_image(turned("JPEG", 6), 96 * 64 - 1).size == (48, 32)
    assert open_image(encoded(upright(121, 81), "JPEG"), 5000).size == (61, 41)
    with pytest.raises(ValueError, match="image too large: 120x80 are 9,600 pixels, at most 4,799 are read"):
        open_image(encoded(image, "JPEG"), 4799)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_stored_opens_with_the_default_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever `data.max_pixels` let in: a photograph of 108 megapixels is stored with a quarter of them."""
    monkeypatch.setattr("model.images.MAX_PIXELS", 5000)
    for kind, limit, size in (("JPEG", 5000, (60, 40)), ("JPEG", 10_000, (60, 40)), ("PNG", 40_000, (60, 40))):
        data = encoded(upright(120, 80), kind)
        content, written = plain_file(data, open_image(data, limit))
        assert (written, naively(content).size, corners(naively(content))) == (kind, size, list(CORNERS))


def test_photographs_of_50_megapixels_pass_as_they_are() -> None:
    assert 8192 * 6144 < MAX_PIXELS < 12_000 * 9000 < 16_320 * 12_240 <= 2 * MAX_PIXELS  # the last two at half size


def test_an_icon_cannot_hide_a_bomb() -> None:
    """The header says 16x16; the PNG inside has 3.6 gigapixels."""
    bomb = png_file(60_000, 60_000, 1, 0, bytes(10**6))
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(bomb), 22) + bomb
    with pytest.raises(ValueError, match="image too large"):
        open_image(icon)


@pytest.mark.parametrize(
    ("mode", "kind", "plain"),
    [
        ("RGB", "JPEG", True),
        ("L", "JPEG", True),
        ("CMYK", "JPEG", False),
        ("RGB", "PNG", True),
        ("L", "PNG", True),
        ("1", "PNG", True),
        ("P", "PNG", True),
        ("RGBA", "PNG", False),
        ("LA", "PNG", False),
        ("I;16", "PNG", False),
        ("RGB", "WEBP", True),
        ("RGB", "BMP", False),
        ("RGB", "TIFF", False),
        ("RGB", "GIF", False),
        ("RGB", "PPM", False),
        ("RGB", "ICO", False),
        ("RGB", "AVIF", False),
        ("RGB", "JPEG2000", False),
        ("RGB", "HEIF", False),
    ],
)
def test_plain_files(mode: str, kind: str, plain: bool) -> None:
    """A plain file keeps its bytes. Any other becomes a PNG; before anything has seen it, a photograph a JPEG."""
    data = encoded(photo(64, 64, mode), kind)
    image = open_image(data)
    assert plain_format(data) == (kind if plain else None)
    content, written = plain_file(data)
    assert (content == data) == plain and written == (kind if plain else "PNG")
    assert naively(content).tobytes() == image.tobytes() == open_image(content).tobytes()
    content, written = plain_file(data, image)
    photograph = kind in ("JPEG", "AVIF", "JPEG2000", "HEIF") and not plain
    assert (content == data) == plain and written == ("JPEG" if photograph else kind if plain else "PNG")
    assert naively(content).tobytes() == open_image(content).tobytes()
    difference = np.asarray(image, int) - np.asarray(open_image(content), int)
    assert np.abs(difference).max() <= (2 if photograph else 0)


def test_16_bit_colors_leave_with_8() -> None:
    data = png_file(2, 1, 16, 2, b"\0" + struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0xFFFF, 0, 0x80FF))
    content, kind = plain_file(data)
    assert kind == "PNG" and content[24] == 8
    assert list(naively(content).tobytes()) == [0x12, 0x56, 0x9A, 0xFF, 0, 0x80]


def test_a_jpeg_with_more_images_behind_it_is_plain() -> None:
    """Phones add a depth map or a gain map (MPO); every tool reads the first image."""
    first, second = upright(), Image.new("RGB", (96, 64), "white")
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert plain_file(data) == (data, "JPEG")
    assert naively(data).tobytes() == open_image(data).tobytes()


def test_a_lossless_webp_stays_lossless() -> None:
    clear = Image.new("RGBA", (6, 4), (10, 20, 30, 0))
    data = encoded(clear, "WEBP", lossless=True)
    assert plain_file(data, open_image(data))[1] == "PNG"
    data = encoded(clear, "WEBP")
    assert plain_file(data, open_image(data))[1] == "JPEG"


@pytest.mark.parametrize("cut", [2, 20])
def test_a_file_without_its_end_is_broken(cut: int) -> None:
    """Even two missing bytes, the end mark of a JPEG: a decoder that goes on cannot tell them from half a picture."""
    with pytest.raises(ValueError, match=r"^broken image: "):
        open_image(encoded(photo(200, 200), "JPEG")[:-cut])
    with pytest.raises(ValueError, match=r"^broken image: "):
        open_image(encoded(photo(64, 64), "HEIF")[:-cut])
