"""Reads several tables side by side, prompt by prompt, as streams: no table is ever held in memory.

`prompts` gives the order. The other tables were written prompt by prompt in the same order, each prompt's rows in a
row, perhaps with some prompts left out.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from rlaif.errors import InputError

Row = dict[str, Any]


def join_by_prompt(prompts: Iterable[Row], **tables: Iterable[Row]) -> Iterator[tuple[Row, dict[str, list[Row]]]]:
    """Each row of `prompts` with its rows of each table, by the table's name (an empty list where it has none).

    Errors: InputError if a table has rows of a prompt that is not in `prompts`, or that comes in another order.
    """
    groups = {name: _groups(rows) for name, rows in tables.items()}
    heads = {name: next(stream, None) for name, stream in groups.items()}
    for prompt in prompts:
        found: dict[str, list[Row]] = {}
        for name, head in heads.items():
            if head is not None and head[0] == prompt["prompt_id"]:
                found[name] = head[1]
                heads[name] = next(groups[name], None)
            else:
                found[name] = []
        yield prompt, found
    for name, head in heads.items():
        if head is not None:
            raise InputError(
                f"{name}.parquet does not fit prompts.parquet: its prompt {head[0]} is not there, or stands in another "
                f"place; delete the run folder and make both again"
            )


def _groups(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    for prompt_id, group in groupby(rows, key=lambda row: row["prompt_id"]):
        yield prompt_id, list(group)
