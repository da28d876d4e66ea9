"""Rows of a CSV file with a header line: separated by commas, semicolons or tabs, in the encodings of `open_text`.

All cells are texts.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from rlaif.errors import InputError
from rlaif.records.json_rows import as_valid, open_text
from rlaif.records.record import Value

MAX_CELL = 2**31 - 1  # characters; images as text are larger than the limit of the library
SEPARATORS = ",;\t"


def read_csv_rows(file: Path) -> Iterator[tuple[int, list[Value]]]:
    """(line, cells) of each line, the header first; an empty cell is None. Errors: InputError."""
    csv.field_size_limit(MAX_CELL)
    with open_text(file, newline="") as opened:
        first_line = opened.readline().removeprefix("\ufeff")
        separator = max(SEPARATORS, key=first_line.count)
        opened.seek(0)
        reader = csv.reader(opened, strict=True, delimiter=separator)
        line = 1
        try:
            for cells in reader:
                if cells:  # not a blank line
                    yield line, [as_valid(cell) or None for cell in cells]
                line = reader.line_num + 1
        except csv.Error as error:
            raise InputError(
                f"{file}, line {line}: {error}; expected CSV in which a quoted cell ends with a quote; correct the file"
            ) from error


def read_header(file: Path) -> list[str]:
    """The names of the columns. Errors: InputError."""
    header = next(read_csv_rows(file), None)
    if header is None:
        raise InputError(f"{file} is empty; expected a header line with the names of the columns")
    names = ["" if name is None else str(name).removeprefix("\ufeff").strip() for name in header[1]]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{file} has two columns {twice[0]!r}; expected a header line with a name for each column")
    return names
