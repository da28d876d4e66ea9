"""The routes: each page is one template filled with plain values; pictures, the style sheet and the script are files.

Addresses begin with the token, which `browser.guard` checks and takes off. What a view shows is in its address alone:
`q` is the filter, `sort` the order, `page` the page.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote as in_address
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from browser import pages, progress
from browser.columns import COMPARED, DROPPED, PAIRS, PROMPTS
from browser.guard import Guard
from browser.pictures import FULL_SIDE, SIDE, place_holder, read_picture, scaled
from browser.query import View, quote
from browser.tables import TABLES, Runs, Snapshot
from rlaif.errors import InputError

HERE = Path(__file__).parent
STATIC = {"browser.css": "text/css", "browser.js": "text/javascript", "browser.svg": "image/svg+xml"}
DAY = "private, max-age=86400"  # a prompt's id is the hash of its picture and instruction


def create_app(runs: Runs, notes: list[str], token: str | None = None) -> tuple[ASGIApp, str]:
    """The application and its token, a new one unless it is given. notes: lines for the first page."""
    token = token or secrets.token_urlsafe(24)
    app = FastAPI(title="browse", openapi_url=None, docs_url=None, redoc_url=None)
    site = Site(runs, notes, f"/{token}")
    lists: tuple[tuple[str, View, Callable[[Snapshot, list[Any]], Any]], ...] = (
        ("pairs", PAIRS, pages.pair_cards),
        ("prompts", PROMPTS, lambda _, rows: rows),
        ("dropped", DROPPED, pages.dropped_texts),
        ("compare", COMPARED, lambda _, rows: rows),
    )
    app.add_api_route("/", site.overview, response_class=HTMLResponse)
    for name, view, rows_of in lists:
        app.add_api_route(f"/{name}", site.list_page(name, view, rows_of), response_class=HTMLResponse)
    app.add_api_route("/prompt/{prompt_id}", site.prompt, response_class=HTMLResponse)
    app.add_api_route("/compare/{prompt_id}", site.compare, response_class=HTMLResponse)
    app.add_api_route("/picture/{prompt_id}/{index}", site.picture, response_class=Response)
    app.add_api_route("/static/{name}", site.static, response_class=Response)
    app.add_exception_handler(InputError, site.failed)
    app.add_exception_handler(HTTPException, site.failed)
    return Guard(app, token), token


class Site:
    """The pages of one or two runs. root: the path before every address."""

    def __init__(self, runs: Runs, notes: list[str], root: str) -> None:
        self._runs, self._notes, self._root = runs, notes, root
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "score": pages.score,
            "duration": progress.readable,
            "quoted": quote,
            "readable": lambda name: str(name).replace("_", " "),
            "percent": lambda share: f"{100 * share:.0f}%",
            "number": lambda value: f"{value:,}",
        }
        self._templates.globals |= {"url": self.url}

    def url(self, *parts: str, **query: object) -> str:
        """An address of this site; parameters that are empty, and page 1, are left out."""
        path = "/".join(in_address(str(part), safe="") for part in parts)
        given = {
            name: value for name, value in query.items() if value not in ("", None) and (name, value) != ("page", 1)
        }
        return f"{self._root}/{path}" + (f"?{urlencode(given)}" if given else "")

    def _page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        paths = self._runs.paths
        names = {schema: path.resolve().name for schema, path in paths.items()}
        if len(set(names.values())) < len(names):  # round-1 of two runs
            names = {schema: str(path) for schema, path in paths.items()}
        runs = {"other": "", **names}
        page = self._templates.get_template(f"{template}.html.j2").render(runs=runs, **values)
        return HTMLResponse(page.encode("utf-8", "backslashreplace"), status)

    def overview(self) -> HTMLResponse:
        snapshot = self._runs.snapshot()
        counts = " UNION ALL ".join(f"SELECT '{name}' AS name, count(*) AS rows FROM run.{name}" for name in TABLES)
        stages = progress.stages(self._runs.path, snapshot)
        source, lines = progress.log_lines(self._runs.path)
        return self._page(
            "overview",
            active="",
            counts={row["name"]: row["rows"] for row in snapshot.rows(counts)},
            stages=stages,
            live=any(stage.state in ("running", "stopped") for stage in stages),
            notes=self._notes,
            log={"source": source, "lines": lines},
        )

    def list_page(
        self, name: str, view: View, rows_of: Callable[[Snapshot, list[Any]], Any]
    ) -> Callable[..., HTMLResponse]:
        """The handler of a view."""

        def show(q: str = "", sort: str = "", page: str = "1") -> HTMLResponse:
            if name == "compare" and self._runs.other is None:
                raise InputError("there is no other run to compare with; start with `make browse RUN=... OTHER=...`")
            snapshot = self._runs.snapshot()
            state = {"q": q, "sort": sort}
            common: dict[str, Any] = {"active": name, "view": view, "state": state}
            if name == "dropped":
                common["counts"] = pages.drop_counts(snapshot)
            try:
                shown = snapshot.page(view, q, sort, _page_number(page))
            except InputError as error:
                return self._page(name, 400, rows=[], shown=None, problem=str(error), **common)
            return self._page(name, rows=rows_of(snapshot, shown.rows), shown=shown, problem="", **common)

        return show

    def prompt(self, prompt_id: str) -> HTMLResponse:
        snapshot = self._runs.snapshot()
        return self._page("prompt", active="prompts", **self._of_prompt(snapshot, "run", prompt_id))

    def compare(self, prompt_id: str) -> HTMLResponse:
        if self._runs.other is None:
            raise InputError("there is no other run to compare with; start with `make browse RUN=... OTHER=...`")
        snapshot = self._runs.snapshot()
        sides = {schema: self._of_prompt(snapshot, schema, prompt_id) for schema in ("run", "other")}
        return self._page("compared", active="compare", sides=sides, prompt=sides["run"]["prompt"])

    @staticmethod
    def _of_prompt(snapshot: Snapshot, schema: str, prompt_id: str) -> dict[str, Any]:
        prompt = pages.prompt_row(snapshot, schema, prompt_id)
        if prompt is None:
            raise HTTPException(404, f"no prompt {prompt_id!r} in this run; the list of prompts has all of them")
        return {
            "prompt": prompt,
            "responses": pages.responses(snapshot, schema, prompt_id),
            "drops": pages.prompt_drops(snapshot, schema, prompt_id),
            "evaluations": pages.evaluations(snapshot, schema, prompt_id),
        }

    def picture(self, prompt_id: str, index: str, full: str = "") -> Response:
        snapshot = self._runs.snapshot()
        number = int(index) if index.isascii() and index.isdigit() and len(index) < 4 else -1
        schemas = self._runs.paths if number >= 0 else ()
        found = (read_picture(snapshot, schema, prompt_id, number) for schema in schemas)
        data = next((picture for picture in found if picture is not None), None)
        if data is None:
            return Response(place_holder("no picture in this run"), 404, media_type="image/svg+xml")
        try:
            return Response(
                scaled(data, FULL_SIDE if full else SIDE), media_type="image/webp", headers={"cache-control": DAY}
            )
        except ValueError as error:
            return Response(place_holder(f"cannot be opened: {error}"), media_type="image/svg+xml")

    @staticmethod
    def static(name: str) -> Response:
        if name not in STATIC:
            raise HTTPException(404, f"no file {name!r}")
        return Response((HERE / "static" / name).read_bytes(), media_type=STATIC[name])

    def failed(self, request: Request, error: Exception) -> HTMLResponse:
        """An error as one line in a page."""
        status = error.status_code if isinstance(error, HTTPException) else 400
        message = str(error.detail) if isinstance(error, HTTPException) else str(error)
        return self._page("error", status, active="", message=message)


def _page_number(text: str) -> int:
    """Errors: InputError: it is not the number of a page."""
    if not (text.isascii() and text.isdigit() and int(text[:9]) >= 1 and len(text) < 9):
        raise InputError(f"page is {text!r}, expected a number from 1")
    return int(text)
