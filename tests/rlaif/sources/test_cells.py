"""The image cell of a row: every form that tables use, and what is said of several, of none, and of other things."""

from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest

from rlaif.sources.cells import image_of, read_data_url
from rlaif.sources.images import load_image
from rlaif.sources.picture import Picture, UnusableImageError
from tests.support.photographs import encoded, photo, write_files

PNG = encoded(photo(40, 40), "PNG")
URL = f"data:image/png;base64,{b64encode(PNG).decode()}"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (b"x", (b"x", None)),
        ("a.png", ("a.png", "a.png")),
        (["a.png"], ("a.png", "a.png")),
        ([[{"bytes": b"x", "path": "a.png"}]], (b"x", "a.png")),
        ({"bytes": b"x"}, (b"x", None)),
        ({"bytes": b"", "path": "a.png"}, (b"", "a.png")),
        ({"bytes": None, "path": "a.png"}, ("a.png", "a.png")),
        ({"bytes": None, "path": b"\xff.png"}, ("\udcff.png", "\udcff.png")),
        ({"url": "https://images.example/a.png"}, ("https://images.example/a.png",) * 2),
        ({"<image_00>": "a.png"}, ("a.png", "a.png")),
        ({"<image_00>": "a.png", "<image_01>": None}, ("a.png", "a.png")),
        ("data:image/png;base64,AAAA", ("data:image/png;base64,AAAA", None)),
        *((cell, (None, None)) for cell in (None, "", [], [None], {}, {"bytes": None, "path": None}, {"path": ""})),
    ],
)
def test_one_image_or_none(cell: object, expected: tuple[bytes | str | None, str | None]) -> None:
    assert image_of(cell) == expected


@pytest.mark.parametrize("cell", [["a", "b"], [b"a", {"bytes": b"b"}], {"<image_00>": "a", "<image_01>": "b"}])
def test_several_images_are_said_to_be_several(cell: object) -> None:
    with pytest.raises(UnusableImageError, match="the row has 2 images, expected one") as error:
        image_of(cell)
    assert error.value.reason == "several_images"


@pytest.mark.parametrize("cell", [3, 2.5, True, {"width": 3}, {"bytes": "text"}, [["a"], 4]])
def test_other_cells_are_unfit(cell: object) -> None:
    with pytest.raises(UnusableImageError, match="expected bytes, a path or a URL") as error:
        image_of(cell)
    assert error.value.reason == "unfit_row"


@pytest.mark.parametrize(
    "url", [URL, URL.rstrip("="), URL.replace("data:", "DATA:"), URL[:60] + "\n" + URL[60:], f"data:,{quote(PNG)}"]
)
def test_data_urls(url: str) -> None:
    assert read_data_url(url) == PNG == load_image(Picture("it", url, ["q"], "it")).content


@pytest.mark.parametrize(("url", "reason"), [("data:image/png;base64,A*", "broken_image"), ("data:x", "missing_image")])
def test_broken_data_urls(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(UnusableImageError) as error:
        load_image(Picture("it", url, ["q"], "it", folders=[tmp_path]))
    assert error.value.reason == reason


def test_paths_of_windows(tmp_path: Path) -> None:
    write_files(tmp_path, {"images/a.png": PNG, "b\\c.png": PNG})
    for path in ("images\\a.png", ".\\images\\a.png", "images/a.png", "b\\c.png"):
        assert load_image(Picture("it", path, ["q"], "it", folders=[tmp_path])).content == PNG
    for path, reason in (("..\\a.png", "image_outside_folder"), ("C:\\images\\a.png", "missing_image")):
        with pytest.raises(UnusableImageError) as error:
            load_image(Picture("it", path, ["q"], "it", folders=[tmp_path / "images"]))
        assert error.value.reason == reason
