"""The answers of an import while its prompts are written: a file on disk, read in the order of the prompts.

Rows of one prompt may be anywhere in a source, but stand together in every table of a run. Texts are kept in a
memory-mapped Arrow file, so that millions of pairs take little memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROWS_AT_ONCE = 2000
SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("answers", pa.list_(pa.large_string())),
        ("policy", pa.string()),
        ("row", pa.string()),  # name of the row in its source
    ]
)


@dataclass(frozen=True)
class Answers:
    """The answers of one row."""

    answers: Sequence[str]
    policy: str | None
    row: str


class AnswerFile:
    """Written from start to end, then read; a context manager, which removes the file with its folder."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._file, SCHEMA)
        self._rows: list[dict[str, object]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._path.unlink(missing_ok=True)
        self._path.parent.rmdir()

    def add(self, prompt_id: str, answers: Answers) -> None:
        """Append the answers of a row."""
        self._rows.append(
            {"prompt_id": prompt_id, "answers": list(answers.answers), "policy": answers.policy, "row": answers.row}
        )
        if len(self._rows) == ROWS_AT_ONCE:
            self._flush()

    def by_prompt(self, prompt_ids: pa.ChunkedArray) -> Iterator[tuple[str, list[Answers]]]:
        """(prompt_id, its answers in the order in which they came), prompt by prompt in the given order.

        Prompts without answers are left out. Ends the writing.
        """
        self._close()
        with pa.memory_map(str(self._path)) as file:
            reader = pa.ipc.open_file(file)
            batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
            order = _order(batches, prompt_ids)
            parts = (order[start : start + ROWS_AT_ONCE] for start in range(0, len(order), ROWS_AT_ONCE))
            rows = (row for part in parts for row in _rows_at(batches, part))
            for prompt_id, given in groupby(rows, key=itemgetter("prompt_id")):
                yield prompt_id, [Answers(row["answers"], row["policy"], row["row"]) for row in given]

    def _flush(self) -> None:
        if self._rows:
            batch = pa.RecordBatch.from_pylist(self._rows, schema=SCHEMA)
            self._writer.write_batch(batch)
            self._rows = []

    def _close(self) -> None:
        if not self._file.closed:
            self._flush()
            self._writer.close()
            self._file.close()


def _order(batches: Sequence[pa.RecordBatch], prompt_ids: pa.ChunkedArray) -> np.ndarray:
    """The numbers of all rows, sorted by the position of their prompt in `prompt_ids`."""
    owners = pa.chunked_array([batch["prompt_id"] for batch in batches], pa.string())
    return np.argsort(pc.index_in(owners, prompt_ids.combine_chunks()).to_numpy(), kind="stable")


def _rows_at(batches: Sequence[pa.RecordBatch], numbers: np.ndarray) -> list[dict[str, Any]]:
    """The rows with these numbers, in their order; every batch but the last has ROWS_AT_ONCE rows.

    Arrow's `take` on a table of many chunks copies more than the rows that it returns.
    """
    by_batch = np.argsort(numbers, kind="stable")
    sorted_numbers = numbers[by_batch]
    owners = sorted_numbers // ROWS_AT_ONCE
    found: list[dict[str, Any]] = []
    for owner in np.unique(owners):
        rows = sorted_numbers[owners == owner] - owner * ROWS_AT_ONCE
        found += batches[owner].take(pa.array(rows)).to_pylist()
    return [found[place] for place in np.argsort(by_batch, kind="stable")]
