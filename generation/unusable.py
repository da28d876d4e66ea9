"""Why a picture cannot be used, and how its path may be shown."""

import re

from rlaif.text import replace_surrogates

URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class Unusable(Exception):
    """Why a picture is put aside."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def redacted(path: str) -> str:
    """A path or URL as a table may show it: of a URL no user, password or query, which may hold a key."""
    if URL.match(path):
        path = re.sub(r"(?<=://)[^/?#]*@", "", re.sub(r"[?#].*", "", path, flags=re.DOTALL))
    return replace_surrogates(path)
