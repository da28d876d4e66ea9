"""One row of a table that someone else wrote, and the table that it is in."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

Value = Any  # None, bool, int, float, str, bytes, list or dict of these, as JSON and Arrow give it


@dataclass(frozen=True)
class Record:
    """A row.

    name: the table and the position in it from 0, such as "train.json:12". where: the same for messages, such as
    "train.json, line 57". values: by column; a text that is not valid Unicode is bytes. fault: why the row cannot be
    read, such as too many cells; it has no values then.
    """

    name: str
    where: str
    values: dict[str, Value]
    fault: str | None = None


@dataclass(frozen=True)
class RecordTable:
    """A table: a file, or a split of a data set.

    title: for messages. columns: those of the schema or the header; of JSON, of its first 100 rows. schema: None for
    JSON and CSV. folders: a relative path in its cells starts at the first one; each must lead into one of them.
    read: columns -> the rows with those of them that they have; None: all. It can be called several times.
    """

    title: str
    columns: list[str]
    folders: list[Path]
    read: Callable[[Sequence[str] | None], Iterator[Record]] = field(repr=False)
    schema: "pa.Schema | None" = None

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Record]:
        """The rows in order. Errors: InputError for a file that is damaged, with the line."""
        return self.read(columns)
