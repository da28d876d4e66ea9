"""Readers of layouts, row by row: whatever a cell holds, a row is a sample or has a reason."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from rlaif.config import DataSection
from rlaif.interchange.importer.layouts import LAYOUTS, recognize
from rlaif.interchange.importer.prompts import read_sample
from rlaif.interchange.importer.sample import UnusableRowError
from rlaif.records.record import Record
from tests.support.published.layouts import ROWS, parts

JUNK: list[Any] = [None, 5, 2.5, True, "", "{", "[]", b"\xff", [], [None], [[]], [3], {}, {"from": "gpt"}, {"role": 1}]
JUNK += [{"from": 1, "value": 2}, [{"role": "user", "content": 7}], {"bytes": 1, "path": 2}, {"type": "video"}]


def mutations(value: Any) -> Iterator[Any]:
    """The value with one part of it, at any depth, replaced by junk or left out."""
    yield from JUNK
    if isinstance(value, dict):
        for key, item in value.items():
            yield {other: value[other] for other in value if other != key}
            yield from ({**value, key: changed} for changed in mutations(item))
    if isinstance(value, list):
        yield value * 2
        for index, item in enumerate(value):
            yield from ([*value[:index], changed, *value[index + 1 :]] for changed in mutations(item))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_row_is_a_sample_or_has_a_reason(layout: Any) -> None:
    data = DataSection(source="import", path="x")
    reasons = set()
    rows = [*mutations(ROWS[layout.name](0))]
    if layout.name == "rlhf-v":  # its texts are within JSON
        row = ROWS[layout.name](0)
        rows += [{**row, "text": changed} for changed in mutations(json.loads(row["text"]))]
    for row in rows:
        if isinstance(row, dict):
            try:
                sample = read_sample(Record("x:0", "x, line 1", row), layout, data)
            except UnusableRowError as error:
                reasons.add(error.reason)
            else:
                assert isinstance(sample.image, str | bytes) and isinstance(sample.instruction, str)
                assert all(isinstance(text, str) for text in sample.answers)
    assert {"no_image", "unfit_row", "missing_instruction", "empty_response", "broken_text"} <= reasons


@pytest.mark.parametrize("name", ROWS)
def test_layouts_are_recognized_by_one_row_and_by_later_ones(name: str) -> None:
    row = ROWS[name](0)
    assert recognize("x", [row], row, None).name == name
    empty = dict.fromkeys(row)
    assert recognize("x", [empty, {**empty, "more": 1}, row], row, None).name == name


def test_contents_may_be_texts_or_parts_and_images_may_be_in_parts() -> None:
    data = DataSection(source="import", path="x")
    layout = next(layout for layout in LAYOUTS if layout.name == "messages")
    answers = {side: [{"role": "assistant", "content": f"{side}."}] for side in ("chosen", "rejected")}
    image = {"type": "image", "image": "a.png"}
    for images, content in (
        (["a.png"], "What?"),
        (["a.png"], "<image>\nWhat?"),
        ("a.png", parts("What?", images=1)),
        (None, [image, {"type": "text", "text": "What?"}]),
    ):
        row = {"images": images, "prompt": [{"role": "user", "content": content}], **answers}
        sample = read_sample(Record("x:0", "x, line 1", row), layout, data)
        assert (sample.image, sample.instruction, sample.answers) == ("a.png", "What?", ("chosen.", "rejected."))
