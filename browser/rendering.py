"""Fills the templates with plain values; addresses begin with the token, and errors are one line in a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote as in_address
from urllib.parse import urlencode

from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException

from browser import pages, progress
from browser.query import quote

HERE = Path(__file__).parent
TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
STATIC = ("browser.css", "browser.js", "browser.svg", "audit.css", "audit.js")
Keys = Sequence[tuple[Sequence[str], str]]  # keys, and what they do


class Templates:
    """The templates of a site. root: the path before every address; script: its file; keys: what its help lists."""

    def __init__(self, root: str, script: str, keys: Keys) -> None:
        self._root = root
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "score": pages.score,
            "duration": progress.readable,
            "quoted": quote,
            "readable": lambda name: str(name).replace("_", " "),
            "percent": lambda share: f"{100 * share:.0f}%",
            "number": lambda value: f"{value:,}",
        }
        self._environment.globals |= {"url": self.url, "script": script, "keys": keys}

    def url(self, *parts: str, **query: object) -> str:
        """An address of this site; parameters that are empty, and page 1, are left out."""
        path = "/".join(in_address(str(part), safe="") for part in parts)
        given = {
            name: value for name, value in query.items() if value not in ("", None) and (name, value) != ("page", 1)
        }
        return f"{self._root}/{path}" + (f"?{urlencode(given)}" if given else "")

    def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page of the site."""
        text = self._environment.get_template(f"{template}.html.j2").render(**values)
        return HTMLResponse(text.encode("utf-8", "backslashreplace"), status)


def static_file(name: str) -> Response:
    """A style sheet, a script or the icon."""
    if name not in STATIC:
        raise HTTPException(404, f"no file {name!r}")
    return Response((HERE / "static" / name).read_bytes(), media_type=TYPES[name.rpartition(".")[2]])


def status_and_message(error: Exception) -> tuple[int, str]:
    """What an error page says, and with which status."""
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail)
    return 400, str(error)
