"""Conversations of other tools: the turns, the marks of images, and what is no conversation."""

import pytest

from rlaif.records.conversation import Turn, first_user_turn, is_conversation, read_turns, take_marks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<image>\nDescribe.", ("Describe.", 1)),
        ("Describe.\n<image>", ("Describe.", 1)),
        ("Describe. <image>", ("Describe.", 1)),
        ("<image_00>\n<image_01>\nCompare.", ("Compare.", 2)),
        ("What does <image> show?", ("What does show?", 1)),
        ("Is <image>, the first, red?", ("Is, the first, red?", 1)),
        ("First:\n<image>\nWhat is it?", ("First:\n\nWhat is it?", 1)),
        ("\u56fe<image>\u4e2d\u6709\u4ec0\u4e48\uff1f", ("\u56fe\u4e2d\u6709\u4ec0\u4e48\uff1f", 1)),
        ("a <image></image> <b> (<image>./</image>) c", ("a <b> c", 2)),
        ("<image>", ("", 1)),
        ("  Two  spaces <img> stay. ", ("  Two  spaces <img> stay. ", 0)),
    ],
)
def test_marks_are_taken_out_and_counted(text: str, expected: tuple[str, int]) -> None:
    assert take_marks(text) == expected


def test_every_layout_gives_the_same_turns() -> None:
    llava = [{"from": "human", "value": "<image>\nHow many?"}, {"from": "gpt", "value": "3"}]
    minicpm = [{"role": "user", "content": "<image_00>\nHow many?"}, {"role": "assistant", "content": "3"}]
    parts = [
        {"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "How many?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "3"}]},
    ]
    for cell, text_marks in ((llava, 1), (minicpm, 1), (parts, 0)):
        assert is_conversation(cell)
        assert read_turns(cell) == [Turn("user", "How many?", 1, text_marks=text_marks), Turn("assistant", "3")]


def test_the_first_turn_of_the_user() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi."},
        {"role": "user", "content": "x"},
    ]
    assert first_user_turn(turns) == Turn("user", "Hi.")
    assert first_user_turn(turns[:1]) is None


def test_parts_may_hold_their_image() -> None:
    url = {"type": "image_url", "image_url": {"url": "https://images.example/a.jpg"}}
    turn = {"role": "user", "content": [url, {"type": "image", "image": "b.jpg"}, "What is it?"]}
    assert read_turns([turn]) == [Turn("user", "What is it?", 2, ({"url": "https://images.example/a.jpg"}, "b.jpg"))]


def test_what_is_no_conversation() -> None:
    for cell in (
        None,
        "text",
        [],
        [1],
        [{"from": "human"}],
        [{"role": "user", "content": None}],
        {"from": "a", "value": "b"},
    ):
        assert not is_conversation(cell)
    with pytest.raises(ValueError, match="expected turns with from and value, or role and content, got text"):
        read_turns("text")
    with pytest.raises(ValueError, match="a part of a turn is 'video', expected text or image"):
        read_turns([{"role": "user", "content": [{"type": "video"}]}])
    with pytest.raises(ValueError, match="content of a turn is int, expected text or a list of parts"):
        read_turns([{"role": "user", "content": 3}])
