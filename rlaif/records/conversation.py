"""Conversations as other tools write them, and the marks that stand for images in their texts.

| layout           | a turn                                                                       |
|------------------|------------------------------------------------------------------------------|
| LLaVA            | {"from": "human" or "gpt", "value": "<image>\\nWhat is this?"}               |
| MiniCPM-V        | {"role": "user" or "assistant", "content": "<image_00>\\nWhat is this?"}     |
| parts as content | {"role": ..., "content": [{"type": "image"}, {"type": "text", "text": ...}]} |
"""

import re
from dataclasses import dataclass

from rlaif.records.record import Value

IMAGE_MARK = re.compile(r"\(<image>\./</image>\)|<image>(?:\./)?</image>|<image(?:_\d+)?>")
ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}


@dataclass(frozen=True)
class Turn:
    """One turn. role: "user", "assistant", "system" or another. text: without image marks.

    marks: how many image marks and parts it has; text_marks: those that its text had. images: the images that its
    parts hold: paths, URLs, bytes.
    """

    role: str
    text: str | bytes
    marks: int = 0
    images: tuple[Value, ...] = ()
    text_marks: int = 0


def take_marks(text: str) -> tuple[str, int]:
    """A text without its image marks, and their number. Only a text that has some is changed."""
    first, *parts = IMAGE_MARK.split(text)
    for part in parts:
        left, right = first.rstrip(" "), part.lstrip(" ")
        apart = left != first or right != part
        between = apart and left[-1:] not in ("", "\n") and right[:1] not in ("", "\n", *",.;:!?)")
        first = f"{left} {right}" if between else left + right
    return first.strip() if parts else text, len(parts)


def is_conversation(cell: Value) -> bool:
    """Whether a cell is a list of turns."""
    return isinstance(cell, list) and bool(cell) and all(_keys(turn) is not None for turn in cell)


def is_turn(cell: Value) -> bool:
    """Whether a cell is one turn, such as the chosen answer of a pair."""
    return _keys(cell) is not None


def read_turns(cell: Value) -> list[Turn]:
    """The turns of a conversation. Errors: ValueError for a cell that is none, or has content of an unknown kind."""
    if not is_conversation(cell):
        raise ValueError(f"expected turns with from and value, or role and content, got {str(cell)[:80]}")
    return [read_turn(turn) for turn in cell]


def read_turn(turn: Value) -> Turn:
    """One turn. Errors: ValueError."""
    keys = _keys(turn)
    if keys is None:
        raise ValueError(f"expected a turn with from and value, or role and content, got {str(turn)[:80]}")
    role, content = (turn[key] for key in keys)
    role = str(role).lower()
    text, marks, parts, images = _content(content)
    return Turn(ROLES.get(role, role), text, marks + parts, images, marks)


def first_user_turn(cell: Value) -> Turn | None:
    """The first turn of the user in a conversation; None if there is none. Errors: ValueError as `read_turns`."""
    return next((turn for turn in read_turns(cell) if turn.role == "user"), None)


def _keys(turn: Value) -> tuple[str, str] | None:
    if isinstance(turn, dict):
        for keys in (("from", "value"), ("role", "content")):
            if all(turn.get(key) is not None for key in keys):
                return keys
    return None


def _content(content: Value) -> tuple[str | bytes, int, int, tuple[Value, ...]]:
    """(text without marks, number of marks, number of image parts, the images that parts hold)."""
    if isinstance(content, bytes):  # not valid Unicode
        return content, 0, 0, ()
    if isinstance(content, str):
        return *take_marks(content), 0, ()
    parts = [content] if isinstance(content, dict) else content
    if not isinstance(parts, list):
        raise ValueError(f"the content of a turn is {type(content).__name__}, expected text or a list of parts")
    texts: list[str] = []
    images: list[Value] = []
    marks = image_parts = 0
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str) or kind == "text":
            text = part if isinstance(part, str) else part.get("text")
            if isinstance(text, bytes):
                return text, 0, 0, ()
            if not isinstance(text, str | None):
                raise ValueError(f"the text of a part is {type(text).__name__}, expected text")
            without, count = take_marks(text or "")
            texts.append(without)
            marks += count
        elif kind in ("image", "image_url"):
            image_parts += 1
            image = part.get("image") or part.get("image_url") or part.get("url") or part.get("path")
            images += [] if image is None else [image]
        else:
            raise ValueError(f"a part of a turn is {str(kind or part)[:80]!r}, expected text or image")
    return "\n".join(filter(None, texts)), marks, image_parts, tuple(images)
