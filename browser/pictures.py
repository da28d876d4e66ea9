"""Pictures by row: one is read, decoded and scaled for each request, or a place holder says why it cannot be shown."""

import io
from collections.abc import Iterable
from functools import lru_cache
from html import escape

from fastapi.responses import Response

from browser.tables import Snapshot

SIDE = 640  # pixels of the longer side in a list
FULL_SIDE = 4096
KEPT = 256  # pictures of a list that are held in memory, some 10 MB
DAY = "private, max-age=86400"  # a prompt's id is the hash of its picture and instruction


def picture_response(snapshot: Snapshot, schemas: Iterable[str], prompt_id: str, index: str, side: int) -> Response:
    """A prompt's picture by its number, from the first run that has it, or a place holder."""
    number = int(index) if index.isascii() and index.isdigit() and len(index) < 4 else -1
    found = (read_picture(snapshot, schema, prompt_id, number) for schema in (schemas if number >= 0 else ()))
    data = next((picture for picture in found if picture is not None), None)
    if data is None:
        return Response(place_holder("no picture in this run"), 404, media_type="image/svg+xml")
    try:
        return Response(scaled(data, side), media_type="image/webp", headers={"cache-control": DAY})
    except ValueError as error:
        return Response(place_holder(f"cannot be opened: {error}"), media_type="image/svg+xml")


def read_picture(snapshot: Snapshot, schema: str, prompt_id: str, index: int) -> bytes | None:
    """The file of a prompt's picture; pairs, whose row groups are small, are asked first. None: the run has none."""
    assert schema in ("run", "other")
    queries = (
        (f"SELECT images[?].bytes AS data FROM {schema}.pairs WHERE prompt_id = ? LIMIT 1", [index + 1, prompt_id]),
        (f"SELECT image.bytes AS data FROM {schema}.prompts WHERE prompt_id = ? AND ? = 0 LIMIT 1", [prompt_id, index]),
    )
    for query, parameters in queries:
        for row in snapshot.rows(query, parameters):
            if row["data"] is not None:
                return bytes(row["data"])
    return None


@lru_cache(maxsize=KEPT)
def scaled(data: bytes, side: int) -> bytes:
    """A picture as WebP, its longer side at most `side`. Errors: ValueError: it cannot be decoded."""
    from model.images import open_image

    image = open_image(data)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=88)
    return buffer.getvalue()


def place_holder(reason: str) -> bytes:
    """A picture that says in a line why there is none."""
    lines = [reason[start : start + 38] for start in range(0, min(len(reason), 190), 38)]
    texts = "".join(
        f'<text x="160" y="{100 + 20 * number}" text-anchor="middle">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 200" width="320" height="200">'
        '<rect width="320" height="200" fill="#8a8d93" fill-opacity="0.16"/>'
        '<path d="M136 32h48v36h-48zM136 60l16-14 12 10 8-6 12 12" fill="none" stroke="#85888e" stroke-width="2"/>'
        f'<g font-family="system-ui, sans-serif" font-size="14" fill="#777a80">{texts}</g></svg>'
    ).encode()
