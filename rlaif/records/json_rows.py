"""Rows of a JSON file, one at a time: a list of objects, or objects one after another (JSON lines).

A list of a gigabyte takes no more memory than its longest row. Byte order marks, UTF-16, Windows line ends and a comma
after the last row are accepted. Anything else that is not JSON is an error that names the line.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rlaif.errors import InputError
from rlaif.records.record import Value

CHARACTERS = 2**20  # read at a time
TAIL = 4096  # bytes at the end of a file
LONGEST_TOKEN = 16  # "-Infinity", "\ud83d\ude00": an error closer to the end of the text may be due to that end
_SPACE = re.compile(r"[ \t\n\r\ufeff]*")  # two files joined into one have a mark in the middle


def read_json_rows(file: Path) -> Iterator[tuple[int, Value]]:
    """(line, value) of each row, counted from 1. Errors: InputError."""
    with open_text(file) as opened:
        text = _JsonText(file, opened)
        in_list = text.next_character() == "["
        if in_list:
            text.skip()
        if text.next_character() == "":
            empty = InputError(f"{file} is empty; expected a list of rows, or JSON lines; copy or write it again")
            raise text.cut_short() if in_list else empty
        while (character := text.next_character()) not in ("", "]"):
            yield text.line, text.value()
            character = text.next_character()
            if in_list and character == ",":
                text.skip()
            elif in_list and character not in ("", "]"):
                raise text.error(f"found {character!r} where ',' or ']' is expected")
        if not in_list and character == "]":
            raise text.error("found ']' without a '[' before")
        if in_list:
            if character == "":
                raise text.cut_short()
            text.skip()
            if text.next_character():
                raise text.error(f"found {text.next_character()!r} after the end of the list")


def check_end(file: Path) -> None:
    """Read a file that ends otherwise than JSON does, so that its error comes before its first row is used.

    Errors: InputError, as `read_json_rows`.
    """
    with file.open("rb") as opened:
        utf8 = json.detect_encoding(opened.read(4)).startswith("utf-8")
        opened.seek(-min(TAIL, opened.seek(0, os.SEEK_END)), os.SEEK_END)
        end = opened.read().rstrip()
    if utf8 and not end.endswith((b"]", b"}")):
        for _ in read_json_rows(file):
            pass


def open_text(file: Path, newline: str | None = None) -> TextIO:
    """A file of text in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Bytes that are not valid become lone surrogates; see `as_valid`.
    """
    with file.open("rb") as opened:
        encoding = json.detect_encoding(opened.read(4))
    return file.open(encoding=encoding, errors="surrogateescape", newline=newline)


def as_valid(value: Value) -> Value:
    """The value, in which texts with lone surrogates, which no table can hold, became bytes."""
    if isinstance(value, str):
        if _is_unicode(value):
            return value
        escaped = re.search("[\ud800-\udc7f\udd00-\udfff]", value) is None
        return value.encode("utf-8", "surrogateescape" if escaped else "surrogatepass")
    if isinstance(value, dict):
        return {str(as_valid(key)): as_valid(item) for key, item in value.items()}
    return [as_valid(item) for item in value] if isinstance(value, list) else value


class _JsonText:
    """The text of a file from a position on; the file is read on as far as needed."""

    def __init__(self, file: Path, opened: TextIO) -> None:
        self.file = file
        self.line = 1  # of the position
        self._last_line = 1  # with something other than space
        self._opened = opened
        self._text = ""
        self._position = 0
        self._ended = False
        self._may_be_invalid = False
        self._decoder = json.JSONDecoder()

    def next_character(self) -> str:
        """The character at the position, after spaces were skipped; empty at the end of the file."""
        while True:
            self._move(_SPACE.match(self._text, self._position).end())  # type: ignore[union-attr]
            if self._position < len(self._text):
                return self._text[self._position]
            if self._ended:
                return ""
            self._read_on()

    def skip(self) -> None:
        """Skip the character at the position, which is not a line end."""
        self._position += 1
        self._last_line = self.line

    def value(self) -> Value:
        """The value at the position, which is then behind it. Errors: InputError."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._position)
                value = as_valid(value) if self._may_be_invalid else value
            except json.JSONDecodeError as error:
                at_end = error.pos > len(self._text) - LONGEST_TOKEN or error.msg.startswith("Unterminated string")
                if not at_end or (self._ended and not self._is_cut(error)):
                    raise self.error(error.msg[0].lower() + error.msg[1:], error.pos) from error
                if self._ended:
                    raise self.cut_short() from error
                self._read_on()
            except (RecursionError, ValueError) as error:  # nested too deeply; a number of thousands of digits
                raise self.error(str(error)) from error
            else:
                if end == len(self._text) and not self._ended:
                    self._read_on()  # a number may go on
                    continue
                self._move(end)
                self._last_line = self.line
                return value

    def error(self, problem: str, position: int | None = None) -> InputError:
        """The error for a problem at a position of the text; None: at the current one."""
        line = self.line + (self._text.count("\n", self._position, position) if position else 0)
        return InputError(f"{self.file}, line {line} is not valid JSON: {problem}; correct the file")

    def cut_short(self) -> InputError:
        """The error for a file that ends too early."""
        rest = self._text[self._position :].strip()
        line = self.line + rest.count("\n") if rest else self._last_line
        return InputError(f"{self.file} ends in line {line} within its JSON: it was cut short; copy or write it again")

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether an error at the end of the file is due to that end."""
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text.rstrip())

    def _move(self, position: int) -> None:
        self.line += self._text.count("\n", self._position, position)
        self._position = position

    def _read_on(self) -> None:
        rest = self._text[self._position :]
        try:
            more = self._opened.read(max(CHARACTERS, len(rest)))  # twice as much each time, for rows of any length
        except UnicodeDecodeError as error:  # UTF-16 or UTF-32 that ends within a character
            raise InputError(
                f"{self.file} is not {error.encoding}, which its first bytes announce: {error.reason}; write it again"
            ) from error
        self._text, self._position, self._ended = rest + more, 0, not more
        self._may_be_invalid = "\\ud" in self._text or "\\uD" in self._text or not _is_unicode(self._text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
