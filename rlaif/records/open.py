"""Opens whatever a user names: a table in a file, a folder of tables, a data set."""

import re
from collections.abc import Iterator
from pathlib import Path

from rlaif.errors import InputError
from rlaif.records.data_sets import is_saved_data_set, open_data_set
from rlaif.records.files import KINDS, open_files
from rlaif.records.record import RecordTable

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def open_records(
    path: str,
    *,
    split: str = "train",
    config_name: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    section: str = "data",
) -> Iterator[RecordTable]:
    """The tables at a path, or the split of a data set of the hub. section: its key `path` is named in messages.

    Errors: InputError, as `open_files` and `open_data_set`, or for a path that is neither.
    """
    local = Path(path)
    if local.exists() and not is_saved_data_set(local):
        yield from open_files(local, f"{section}.path")
    elif local.exists() or HUB_ID.fullmatch(path):
        yield open_data_set(
            path, split=split, config_name=config_name, revision=revision, streaming=streaming, section=section
        )
    else:
        raise InputError(
            f"{path} is missing; set {section}.path to a file with suffix {', '.join(KINDS)}, a folder of them, or the "
            "id of a data set, owner/name"
        )
