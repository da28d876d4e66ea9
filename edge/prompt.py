"""A picture and a text -> the prompt of an edge answer, with the processor that training and sampling use.

So the schema is exact for every grid: slices are cut, resized and ordered as the policy learned them, and nothing in
the text becomes a special token.
"""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from edge.slices import Prompt, Slices
from rlaif.errors import InputError

if TYPE_CHECKING:
    from model import MiniCPMVProcessor


def encode_prompt(processor: "MiniCPMVProcessor", picture: bytes | None, text: str, name: str = "picture") -> Prompt:
    """The prompt of one user turn, the picture first.

    picture: an encoded file, `name` in messages; None: text alone.
    Errors: InputError for a picture that cannot be read.
    """
    from model.images import open_image

    ids = processor.encode_turn(text, has_image=picture is not None)
    if picture is None:
        return Prompt(ids, [], None, processor.end_of_turn)
    try:
        image = open_image(picture)
    except ValueError as error:
        raise InputError(f"{name}: {error}; expected a picture such as a JPEG or PNG file; give another one") from error
    strips, sizes = processor.image_processor.slice(image)
    ids = processor.expand(ids, [image.size])
    slices = Slices([strip.numpy() for strip in strips], sizes.numpy())
    return Prompt(ids, find_slots(ids, processor.image_token_id, len(strips)), slices, processor.end_of_turn)


def find_slots(ids: list[int], placeholder: int, count: int) -> list[tuple[int, int]]:
    """Where the placeholders of each of `count` slices are: (first, last + 1), equally many for each."""
    positions = np.flatnonzero(np.array(ids) == placeholder).reshape(count, -1)  # [S, Q]
    slots = [(int(row[0]), int(row[-1]) + 1) for row in positions]
    assert all(end - start == positions.shape[1] for start, end in slots), "the placeholders of a slice are consecutive"
    assert all(end < start for (_, end), (start, _) in pairwise(slots)), "tags are between slices"
    return slots
