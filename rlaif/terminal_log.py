"""What a stage prints, with times, at the end of a file of its run: announcements, warnings, figures, errors.

A progress bar is redrawn in its line, of which the log has only the last state. Each line is one write to a file that
is opened for appending, so that a kill keeps all lines and those of two processes do not mix.
"""

import os
import re
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, cast

MOST_WAITING = 1000  # lines
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colors and movements of the cursor


@contextmanager
def recorded(file: Path) -> Iterator[None]:
    """Append what this process prints to a file, too, from the moment at which its folder is that of a run.

    A folder is one once it has a lock; until then lines are kept, and dropped where it never becomes one, so that a
    mistaken RUN= leaves nothing behind. Of several processes of a launcher only the first is recorded.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    log = Log(file)
    streams = Recorded(sys.stdout, log), Recorded(sys.stderr, log)
    with redirect_stdout(cast(TextIO, streams[0])), redirect_stderr(cast(TextIO, streams[1])):
        try:
            yield
        except Exception as error:  # a defect, whose traceback is printed later
            log.append("".join(traceback.format_exception(error)))
            raise
        finally:
            for stream in streams:
                stream.end_line()
            log.close()


class Log:
    """Lines with times at the end of a file. A failure to write ends the log, with a note, and not the stage."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._waiting: deque[str] = deque(maxlen=MOST_WAITING)
        self._descriptor: int | None = None
        self._closed = False

    def is_recording(self) -> bool:
        """Whether this process is recorded; one that was forked from it is not."""
        return not self._closed and os.getpid() == self._process

    def append(self, text: str) -> None:
        """Append the lines of a text."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines = (_CONTROL.sub("", line.rstrip().rpartition("\r")[2]).rstrip() for line in text.split("\n"))
        with self._lock:
            self._waiting.extend(f"{now} {line}\n" for line in lines if line)
            if self._closed or not self._waiting or not self._is_of_a_run():
                return
            try:
                if self._descriptor is None:
                    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                    self._descriptor = os.open(self._file, flags, 0o666)
                os.write(self._descriptor, "".join(self._waiting).encode("utf-8", "backslashreplace"))
                self._waiting.clear()
                return
            except OSError as error:
                self._closed = True
                note = f"note: {self._file} is not written any more ({error.strerror}); the stage goes on"
        print(note, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._closed = True
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _is_of_a_run(self) -> bool:
        return self._descriptor is not None or any(self._file.parent.glob(".*lock"))


class Recorded:
    """A stream that also goes to a log, line by line; in all else it is the stream."""

    def __init__(self, stream: TextIO, log: Log) -> None:
        self._stream, self._log = stream, log
        self._lock = threading.Lock()
        self._line = ""

    def write(self, text: str) -> int:
        if self._log.is_recording():  # first, so that the log has every line that was seen
            with self._lock:
                whole, separator, rest = (self._line + text).rpartition("\n")
                self._line = rest.rpartition("\r")[2] if "\r" in rest[:-1] else rest
            if separator:
                self._log.append(whole)
        return self._stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def end_line(self) -> None:
        """Record what stands in a line without an end."""
        if self._log.is_recording():
            self._log.append(self._line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
