"""A picture as its source gives it, the reason why it cannot be used, and how its path may be shown."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlaif.text import replace_surrogates

URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

Drop = Callable[[str, str, str], None]  # (row_id, reason, detail)


@dataclass(frozen=True)
class Picture:
    """One row of a source: an image and the instructions that belong to it.

    name: identifies the row for a person. image: file bytes, a path, a URL, or None where the source has none.
    instructions: bytes where they are not valid UTF-8. path: shown in tables. split: None: decided by a hash of the
    image, see rlaif.sources.splits.split_of. folders: relative paths start from the first one; every path must resolve
    to a file in one of them. fault: why the row has no image to load. marks: image marks that were taken out of the
    instructions already.
    """

    name: str
    image: bytes | str | None
    instructions: Sequence[str | bytes | None]
    path: str
    split: str | None = None
    reference: str | None = None
    folders: Sequence[Path] = ()
    fault: "UnusableImageError | None" = None
    marks: int = 0


class UnusableImageError(Exception):
    """A picture cannot be used; `reason` is one of the table in rlaif.sources.images."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def redacted(path: str) -> str:
    """A path or URL that is safe to store: a URL loses its user, password and query, which may contain a key."""
    if URL.match(path):
        path = re.sub(r"(?<=://)[^/?#]*@", "", re.sub(r"[?#].*", "", path, flags=re.DOTALL))
    return replace_surrogates(path)
