"""Rows of tables and data sets -> pictures: the columns, the image of a row, and its instruction.

The question column holds a text, or a conversation as LLaVA and MiniCPM-V write it, whose first turn of the user is
the instruction. Image marks in it, such as `<image>`, are taken out: the image is sent beside the text.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlaif.errors import InputError
from rlaif.records.conversation import Turn, first_user_turn, is_conversation, take_marks
from rlaif.records.record import Record, RecordTable, Value
from rlaif.sources.cells import image_of
from rlaif.sources.picture import Picture, UnusableImageError, redacted

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_COLUMNS = ("image", "images")
QUESTION_COLUMNS = ("question", "conversations", "messages")
TURNS_AS_TEXT = re.compile(r"""\s*\[\s*\{\s*["'](?:from|role|value|content)["']\s*:""")  # in a cell of CSV


@dataclass(frozen=True)
class Columns:
    """Which columns hold image and text; None: the first of IMAGE_COLUMNS or QUESTION_COLUMNS that a table has.

    section, text: the settings are called `{section}.image_column` and `{section}.{text}_column`, for messages.
    """

    image: str | None = None
    question: str | None = None
    section: str = "data"
    text: str = "question"

    def of(self, table: RecordTable) -> tuple[str | None, str]:
        """The two columns of a table; no image column where the conversations hold the images themselves.

        Errors: InputError for a column that is missing or has another type.
        """
        setting = f"{self.section}.{self.text}_column"
        question = _find(table, [self.question] if self.question else QUESTION_COLUMNS, setting)
        if self.image is None and not set(IMAGE_COLUMNS) & set(table.columns) and _has_images(table, question):
            return None, question
        image = _find(table, [self.image] if self.image else IMAGE_COLUMNS, f"{self.section}.image_column")
        if table.schema is not None:
            _check_types(table.title, table.schema, image, question, setting)
        return image, question


def table_pictures(tables: Iterable[RecordTable], columns: Columns, folder: Path | None = None) -> Iterator[Picture]:
    """The rows of tables. folder: relative image paths start here; None: in the folder of their table.

    Errors: InputError for a table that cannot be read, or has not the columns.
    """
    for table in tables:
        image, question = columns.of(table)
        folders = table.folders if folder is None else [folder]
        for record in table.rows([question] if image is None else [image, question]):
            yield _picture(record, image, question, folders)


def _picture(record: Record, image_column: str | None, question_column: str, folders: list[Path]) -> Picture:
    image = path = None
    turn: Turn | None = None
    fault = UnusableImageError("unfit_row", record.fault) if record.fault else None
    try:
        turn = _instruction(record.values.get(question_column))
        cell = None if image_column is None else record.values.get(image_column)
        image, path = image_of(list(turn.images) if cell is None and turn else cell)
        if turn is not None and turn.marks > 1 and image is not None:
            raise UnusableImageError("several_images", f"the question has {turn.marks} image marks, expected one")
    except UnusableImageError as error:
        image, fault = None, UnusableImageError(error.reason, f"{record.where}: {error}")
    except RecursionError:
        image, fault = None, UnusableImageError("unfit_row", f"{record.where}: a cell is nested too deeply")
    return Picture(
        record.name,
        image,
        [turn.text if turn else None],
        redacted(path or record.name),
        folders=folders,
        fault=fault,
        marks=turn.text_marks if turn else 0,
    )


def _instruction(cell: Value) -> Turn | None:
    """The instruction in a cell; None: there is none. Errors: UnusableImageError `unfit_row`."""
    if cell is None:
        return None
    if isinstance(cell, bytes):  # not valid UTF-8
        return Turn("user", cell)
    if isinstance(cell, str) and not TURNS_AS_TEXT.match(cell):
        text, marks = take_marks(cell)
        return Turn("user", text, marks, text_marks=marks)
    try:
        return first_user_turn(json.loads(cell) if isinstance(cell, str) else cell)
    except ValueError as error:
        raise UnusableImageError("unfit_row", f"the instruction is not a text: {error}") from error


def _find(table: RecordTable, names: Iterable[str], setting: str) -> str:
    found = next((name for name in names if name in table.columns), None)
    if found is None:
        wanted = " or ".join(map(repr, names))
        header = ", or give the file a header line" if table.title.endswith((".csv", ".tsv")) else ""
        raise InputError(
            f"{table.title} has no column {wanted}; it has: {', '.join(table.columns)}; set {setting}{header}"
        )
    return found


def _has_images(table: RecordTable, question: str) -> bool:
    """Whether the first conversation of a table holds an image itself."""
    for record in table.rows([question]):
        cell = record.values.get(question)
        turn = first_user_turn(cell) if is_conversation(cell) else None
        return turn is not None and bool(turn.images)
    return False


def _check_types(title: str, schema: "pa.Schema", image: str, question: str, setting: str) -> None:
    """Errors: InputError."""
    import pyarrow as pa

    image_setting = f"{setting.partition('.')[0]}.image_column"
    for name, fits, expected, key in (
        (image, _may_hold_image, "bytes, struct<bytes, path>, or path", image_setting),
        (question, _may_hold_question, "text or turns", setting),
    ):
        kind = schema.field(name).type
        if pa.types.is_null(kind):
            raise InputError(f"{title}: column {name!r} is null in every row; expected {expected}; set {key}")
        if not fits(kind):
            raise InputError(f"{title}: column {name!r} has type {kind}; expected {expected}; set {key}")


def _may_hold_image(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    from rlaif.records.arrow_rows import is_binary, is_list, is_text, plain_type

    kind = plain_type(kind)
    if is_list(kind):
        return _may_hold_image(kind.value_type)
    return is_text(kind) or is_binary(kind) or pa.types.is_struct(kind)


def _may_hold_question(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    from rlaif.records.arrow_rows import is_list, is_text

    return is_text(kind) or (is_list(kind) and pa.types.is_struct(kind.value_type))
