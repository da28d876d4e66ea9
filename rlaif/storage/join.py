"""Reads several tables side by side, prompt by prompt, as streams: no table is held in memory as a whole.

`prompts` gives the order. Each other table has the rows of a prompt next to each other, and its prompts in the same
order; it may lack some prompts. All tables come as `rlaif.storage.tables.read_parts` gives them.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rlaif.errors import InputError
from rlaif.storage.tables import Row

PROMPTS_AT_ONCE = 200  # bounds memory where a prompt has many responses and claims


class Rows(NamedTuple):
    """Rows of a table; those of the i-th prompt are rows starts[i] to starts[i + 1]."""

    table: pa.Table
    starts: npt.NDArray[np.int64]


def join_parts(prompts: Iterable[pa.Table], **tables: Iterable[pa.Table]) -> Iterator[tuple[pa.Table, dict[str, Rows]]]:
    """Batches of prompts, with their rows of each table by the table's name.

    Errors: InputError if a table has rows of a prompt that is not in `prompts`, or has them in another order.
    """
    streams = {name: _Stream(parts) for name, parts in tables.items()}
    for part in prompts:
        for start in range(0, part.num_rows, PROMPTS_AT_ONCE):
            batch = part.slice(start, PROMPTS_AT_ONCE)
            prompt_ids = batch["prompt_id"].to_pylist()
            yield batch, {name: stream.rows_of(prompt_ids) for name, stream in streams.items()}
    for name, stream in streams.items():
        if stream.prompt_id is not None:
            raise InputError(
                f"{name}.parquet does not fit prompts.parquet: its prompt {stream.prompt_id} is missing there, or the "
                "order differs; delete the run folder and write both again"
            )


def join_by_prompt(
    prompts: Iterable[pa.Table], **tables: Iterable[pa.Table]
) -> Iterator[tuple[Row, dict[str, list[Row]]]]:
    """Each prompt with its rows of each table (an empty list where it has none). Errors: as `join_parts`."""
    for batch, joined in join_parts(prompts, **tables):
        lists = {name: (rows.table.to_pylist(), rows.starts.tolist()) for name, rows in joined.items()}
        for index, prompt in enumerate(batch.to_pylist()):
            yield prompt, {name: rows[starts[index] : starts[index + 1]] for name, (rows, starts) in lists.items()}


class _Stream:
    """The rows of one table, read in the order of prompts. `prompt_id`: that of the next rows, None at the end."""

    def __init__(self, parts: Iterable[pa.Table]) -> None:
        self._groups = _groups(parts)
        self._part, self._first, self._end, self.prompt_id = next(self._groups)

    def rows_of(self, prompt_ids: list[str]) -> Rows:
        """All rows of these prompts; none of a prompt that does not come next."""
        pieces: list[tuple[pa.Table, int, int]] = [(self._part, self._first, self._first)]
        starts = [0]
        for prompt_id in prompt_ids:
            count = 0
            while self.prompt_id == prompt_id:
                part, first, _ = pieces[-1]
                if part is self._part:
                    pieces[-1] = (part, first, self._end)
                else:
                    pieces.append((self._part, self._first, self._end))
                count += self._end - self._first
                self._part, self._first, self._end, self.prompt_id = next(self._groups)
            starts.append(starts[-1] + count)
        table = pa.concat_tables(part.slice(first, end - first) for part, first, end in pieces)
        return Rows(table.combine_chunks(), np.array(starts))


def _groups(parts: Iterable[pa.Table]) -> Iterator[tuple[pa.Table, int, int, str | None]]:
    """(part, first row, row after the last, prompt_id) of adjacent rows of one prompt; prompt_id None at the end."""
    for part in parts:
        ids = part["prompt_id"].combine_chunks()
        changes = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
        firsts = [0, *(np.flatnonzero(changes) + 1).tolist()] if len(ids) else []
        ends = [*firsts[1:], len(ids)]
        prompt_ids = ids.take(pa.array(firsts, pa.int64())).to_pylist()
        for first, end, prompt_id in zip(firsts, ends, prompt_ids, strict=False):
            yield part, first, end, prompt_id
    yield part, part.num_rows, part.num_rows, None
