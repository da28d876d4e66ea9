"""Pairs of a run as the report shows them: images as data URIs, both answers, claims with their verdicts."""

import base64
import io
import random
from typing import Any
from urllib.parse import quote

from rlaif.config import Config
from rlaif.report.sections import signed
from rlaif.storage.rows import read_located_parts, read_rows_at, row_locations
from rlaif.storage.run import Run
from rlaif.storage.schemas import SCHEMAS
from rlaif.storage.tables import count_rows, has_table

PAIRS_SHOWN = 20
IMAGE_SIDE, QUALITY = 480, 88  # of an image in the page: pixels of its longer side, and of WebP


def pair_cards(run: Run[Config]) -> list[dict[str, Any]] | None:
    """Some pairs of the run, drawn by its seed, in table order; None before `make feedback`.

    Only the parts of the table that have these pairs are read with their images.
    """
    if not has_table(run, "pairs"):
        return None
    total = count_rows(run, "pairs")
    shown = set(random.Random(run.config.seed).sample(range(total), min(PAIRS_SHOWN, total)))
    parts = read_located_parts(run, "pairs", ["pair_id"])
    rows = (row for part in parts for row in part.select(["group", "row"]).to_pylist())
    locations = row_locations(row for index, row in enumerate(rows) if index in shown)
    return [pair_card(row) for row in read_rows_at(run.path / "pairs.parquet", locations, SCHEMAS["pairs"].names)]


def pair_card(row: dict[str, Any]) -> dict[str, Any]:
    """A row of pairs as the page shows it."""
    sides = [
        {
            "name": side,
            "text": "\n".join(message["content"] for message in row[side]),
            "score": None if row[f"{side}_score"] is None else signed(row[f"{side}_score"], None),
            "claims": [chip(claim) for claim in row[f"{side}_claims"]],
        }
        for side in ("chosen", "rejected")
    ]
    instruction = "\n".join(message["content"] for message in row["prompt"])
    images = [data_uri(image["bytes"]) for image in row["images"]]
    return {
        "id": row["pair_id"],
        "address": address(row["prompt_id"]),
        "instruction": instruction,
        "images": images,
        "sides": sides,
    }


def address(prompt_id: str) -> str:
    """Where `make browse`, which also serves the report, shows a prompt with all of its responses."""
    return f"prompt/{quote(prompt_id, safe='')}"


def chip(claim: dict[str, Any]) -> dict[str, Any]:
    """A claim with its verdict and how sure it is (0 to 1), which the page shows as depth of color."""
    if claim["verdict"] is None:
        return {**claim, "detail": "could not be verified", "sure": 0.0}
    request = claim["question"] if claim["outcome"] == "asked" else "Verified as a statement."
    detail = f"{request} p(yes) {claim['p_yes']:.3f}, p(no) {claim['p_no']:.3f}"
    return {**claim, "detail": detail, "sure": round(abs(claim["p_yes"] - claim["p_no"]), 2)}


def data_uri(image_bytes: bytes, side: int = IMAGE_SIDE, quality: int = QUALITY) -> str:
    """An encoded image as a data URI (WebP), rotated by its EXIF orientation and scaled to fit the page."""
    from model.images import open_image

    image = open_image(image_bytes)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
