"""The prompt of an edge answer: the ids and slices that the processor makes, and where the features belong."""

import io
from pathlib import Path

import numpy as np
import pytest

from edge.policy import load_processor
from edge.prompt import encode_prompt, find_slots
from rlaif.errors import InputError
from tests.support.tiny import noise_image


def png(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    noise_image(size).save(buffer, "PNG")
    return buffer.getvalue()


def test_slots_are_the_placeholders_of_each_slice() -> None:
    assert find_slots([7, 2, 2, 8, 9, 2, 2, 8], placeholder=2, count=2) == [(1, 3), (5, 7)]
    with pytest.raises(AssertionError, match="placeholders of a slice are consecutive"):
        find_slots([2, 8, 2, 2, 2], placeholder=2, count=2)


@pytest.mark.slow  # imports transformers
def test_a_sliced_picture_has_a_slot_for_the_overview_and_each_slice(tiny_model: Path) -> None:
    processor = load_processor(tiny_model)
    data, text = png((112, 56)), "What is <unk> there?"
    prompt = encode_prompt(processor, data, text)
    expected = processor(
        text=processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is "}]}],
            add_generation_prompt=True,
        ),
        images=[noise_image((112, 56))],
    )
    assert prompt.slices is not None
    assert np.array_equal(prompt.slices.sizes, expected["tgt_sizes"])
    assert len(prompt.slots) == len(prompt.slices.strips) == len(prompt.slices.sizes) == 3  # 112 x 56: two of 56 x 56
    for strip, packed in zip(prompt.slices.strips, expected["pixel_values"], strict=True):
        assert np.array_equal(strip, packed[:, :, : strip.shape[2]])
    inside = {position for start, end in prompt.slots for position in range(start, end)}
    assert inside == {index for index, token in enumerate(prompt.ids) if token == processor.image_token_id}
    assert all(end - start == 4 for start, end in prompt.slots)  # the model has 4 queries
    assert prompt.ids[: prompt.slots[-1][1]] == expected["input_ids"][0, : prompt.slots[-1][1]].tolist()
    assert prompt.end_of_turn == processor.end_of_turn


@pytest.mark.slow
def test_text_alone_has_no_slots(tiny_model: Path) -> None:
    processor = load_processor(tiny_model)
    prompt = encode_prompt(processor, None, "yes <unk>")
    assert prompt.ids == processor.encode_turn("yes <unk>", has_image=False)
    assert (prompt.slots, prompt.slices) == ([], None)


@pytest.mark.slow
@pytest.mark.parametrize("data", [b"", b"not a picture", png((60, 60))[:200]], ids=["empty", "text", "cut short"])
def test_a_picture_that_cannot_be_read_is_one_line(tiny_model: Path, data: bytes) -> None:
    with pytest.raises(InputError, match=r"^a\.png: .*image.*; expected a picture such as a JPEG or PNG file; give"):
        encode_prompt(load_processor(tiny_model), data, "yes", "a.png")
