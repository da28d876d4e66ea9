"""Tables of colored squares on canvases, with the texts that are true of them."""

import io
import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COLORS = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (30, 30, 210), "yellow": (230, 220, 40)}
CORNERS = {"top left": (0, 0), "top right": (28, 0), "left": (0, 28), "right": (28, 28)}
SIZES = ((56, 56), (84, 56), (56, 84))


def encoded(image: Image.Image) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def square_rows() -> list[dict[str, Any]]:
    """Each pair of different colors at each pair of different corners: 144 pictures of a few sizes."""
    rows: list[dict[str, Any]] = []
    for (first, second), (here, there) in itertools.product(
        itertools.permutations(COLORS, 2), itertools.permutations(CORNERS, 2)
    ):
        image = Image.new("RGB", SIZES[len(rows) % len(SIZES)], "white")
        texts = []
        for color, corner in ((first, here), (second, there)):
            image.paste(COLORS[color], (*CORNERS[corner], CORNERS[corner][0] + 28, CORNERS[corner][1] + 28))
            texts += [f"{color} square", f"{color} {corner}"]
        rows.append({"image": encoded(image), "texts": texts})
    return rows


def write_table(path: Path, rows: list[dict[str, Any]]) -> str:
    schema = pa.schema(
        {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "texts": pa.list_(pa.string())}
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return str(path)
