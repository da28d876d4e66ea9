"""A row of others as one sample: its images, its instruction and its answers. Pure: cells in, texts out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlaif.records.conversation import Turn, is_turn, read_turn, read_turns, take_marks
from rlaif.records.record import Value
from rlaif.sources.cells import image_of
from rlaif.sources.picture import UnusableImageError
from rlaif.text import replace_surrogates

Row = Mapping[str, Value]


class UnusableRowError(Exception):
    """A row that cannot become a sample; `reason` is a short name that is counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Sample:
    """One image, one instruction, and answers to it.

    image: encoded bytes, a path, a URL or a `data:` URL. path: of the image, where the row has both.
    answers: of a pair: chosen, rejected; otherwise responses. policy: the model that wrote them, if the row names it.
    """

    image: bytes | str
    path: str | None
    instruction: str
    answers: tuple[str, ...]
    policy: str | None = None


def sample(images: Value, turn: Turn, answers: Sequence[str], policy: str | None = None) -> Sample:
    """The sample of one row. images: its image cell or cells; turn: the instruction, with the marks taken out.

    Errors: UnusableRowError.
    """
    try:
        image, path = image_of(images)
        if image is None:
            image, path = image_of(list(turn.images))
    except UnusableImageError as error:
        raise UnusableRowError(error.reason, str(error)) from error
    if image is None:
        raise UnusableRowError("no_image", "the row has no image: it is text only")
    if turn.marks > 1:
        raise UnusableRowError("several_images", f"the instruction has {turn.marks} image marks, expected one")
    if isinstance(turn.text, bytes):
        raise UnusableRowError("broken_text", f"the instruction is not valid UTF-8: {turn.text[:80]!r}")
    return Sample(image, path, turn.text, tuple(answers), policy)


def instruction(cell: Value) -> Turn:
    """The instruction in a text."""
    if isinstance(cell, bytes):
        return Turn("user", cell)
    text, marks = take_marks(as_text(cell, "instruction"))
    return Turn("user", text, marks)


def only_question(cell: Value) -> Turn:
    """The instruction of a conversation with one turn of the user. Errors: UnusableRowError for any other turn."""
    turns = read_cell_turns(cell)
    if len(turns) != 1 or turns[0].role != "user":
        roles = ", ".join(turn.role for turn in turns)
        raise UnusableRowError("several_turns", f"the turns are {roles}; expected one of the user")
    return turns[0]


def question_and_answer(cell: Value) -> tuple[Turn, str]:
    """The instruction and the answer of a conversation with one turn of each. Errors: UnusableRowError."""
    turns = read_cell_turns(cell)
    if [turn.role for turn in turns] != ["user", "assistant"]:
        roles = ", ".join(turn.role for turn in turns)
        raise UnusableRowError("several_turns", f"the turns are {roles}; expected one of the user and one answer")
    return turns[0], answer(cell[1])


def read_cell_turns(cell: Value) -> list[Turn]:
    """As `read_turns`. Errors: UnusableRowError."""
    try:
        return read_turns(cell)
    except ValueError as error:
        raise UnusableRowError("unfit_row", str(error)) from error


def answer(cell: Value) -> str:
    """The text of an answer: a text, a turn, or a list of one turn. It stays as it is, with what looks like a mark.

    Errors: UnusableRowError.
    """
    if isinstance(cell, list):
        if len(cell) != 1:
            raise UnusableRowError("several_turns", f"an answer has {len(cell)} turns, expected one")
        cell = cell[0]
    if not is_turn(cell):
        return as_text(cell, "answer")
    if (role := read_turn_of(cell).role) != "assistant":
        raise UnusableRowError("several_turns", f"an answer is a turn of {role}, expected assistant")
    content = cell["content"] if cell.get("value") is None else cell["value"]
    if not isinstance(content, dict | list):
        return as_text(content, "answer")
    texts = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict) and part.get("type") != "text":
            raise UnusableRowError("unfit_row", f"an answer has a part {part.get('type')!r}, expected text")
        texts.append(as_text(part.get("text") if isinstance(part, dict) else part, "answer"))
    return "\n".join(filter(None, texts))


def read_turn_of(cell: Value) -> Turn:
    """As `read_turn`. Errors: UnusableRowError."""
    try:
        return read_turn(cell)
    except ValueError as error:
        raise UnusableRowError("unfit_row", str(error)) from error


def as_text(cell: Value, what: str) -> str:
    """A cell that must be a text; null counts as empty. Errors: UnusableRowError."""
    if isinstance(cell, bytes):
        raise UnusableRowError("broken_text", f"the {what} is not valid UTF-8: {cell[:80]!r}")
    if cell is not None and not isinstance(cell, str):
        raise UnusableRowError("unfit_row", f"the {what} is {type(cell).__name__}, expected text")
    text = cell or ""
    if replace_surrogates(text) != text:  # JSON within a text can escape half a character
        raise UnusableRowError("broken_text", f"the {what} is not valid Unicode: {text[:80]!a}")
    return text
