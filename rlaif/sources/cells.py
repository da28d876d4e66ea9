"""The image cell of a row, in whatever form it comes.

| cell                                   | the image                                                            |
|----------------------------------------|----------------------------------------------------------------------|
| bytes                                  | an encoded file                                                      |
| text                                   | a path, with / or \\, a web URL, or a `data:` URL                     |
| {"bytes": ..., "path": ...}            | as `datasets` stores it; either may be missing                       |
| {"url": ...}, {"<image_00>": "a.jpg"}  | as in messages for endpoints, and MiniCPM-V's form                   |
| a list or object of one of these       | that one; of several: an error that says so                          |
"""

import binascii
import re
from base64 import b64decode
from urllib.parse import unquote_to_bytes

from rlaif.records.conversation import IMAGE_MARK
from rlaif.sources.picture import UnusableImageError

DATA_URL = re.compile(r"data:(?P<kind>[^,]{0,200}),", re.IGNORECASE)


def image_of(cell: object) -> tuple[bytes | str | None, str | None]:
    """(file bytes, path or URL; its path, where the cell names one) of the one image of a cell; None: it has none.

    Errors: UnusableImageError `several_images`, or `unfit_row` for a cell of another kind.
    """
    images = list(_images(cell))
    if len(images) > 1:
        raise UnusableImageError("several_images", f"the row has {len(images)} images, expected one")
    return images[0] if images else (None, None)


def _images(cell: object) -> list[tuple[bytes | str, str | None]]:
    if isinstance(cell, bytes):
        return [(cell, None)]
    if not cell:  # null, an empty text or list
        return []
    if isinstance(cell, str):
        return [(cell, None if DATA_URL.match(cell) else cell)]
    if isinstance(cell, list):
        return [image for item in cell for image in _images(item)]
    if isinstance(cell, dict) and all(IMAGE_MARK.fullmatch(key) for key in cell):
        return [image for item in cell.values() for image in _images(item)]
    if isinstance(cell, dict) and cell.keys() & {"bytes", "path", "url"}:
        content, path = cell.get("bytes"), cell.get("path") or cell.get("url") or None
        if isinstance(path, bytes):  # a file name that is not valid UTF-8
            path = path.decode("utf-8", "surrogateescape")
        if isinstance(content, bytes | None) and isinstance(path, str | None):
            shown = None if path is None or DATA_URL.match(path) else path
            return [(content, shown)] if content is not None else [(path, shown)] if path else []
    raise UnusableImageError("unfit_row", f"the image is {str(cell)[:80]!r}, expected bytes, a path or a URL")


def read_data_url(url: str) -> bytes:
    """The content of a `data:` URL. Errors: UnusableImageError."""
    match = DATA_URL.match(url)
    if match is None:
        raise UnusableImageError("broken_image", f"{url[:40]!r} is not a data URL: it has no comma")
    content = url[match.end() :]
    if not match["kind"].lower().endswith(";base64"):
        return unquote_to_bytes(content)
    try:
        padded = re.sub(r"\s", "", content.replace("%2B", "+").replace("%2F", "/").replace("%3D", "="))
        return b64decode(padded + "=" * (-len(padded) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnusableImageError("broken_image", f"a data URL whose base64 cannot be decoded ({error})") from error
