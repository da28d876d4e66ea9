"""The routes: each page is one template filled with plain values; pictures, the style sheet and the script are files.

Addresses begin with the token, which `browser.guard` checks and takes off. What a view shows is in its address alone:
`q` is the filter, `sort` the order, `page` the page.
"""

import secrets
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from browser import pages, progress
from browser.columns import COMPARED, DROPPED, PAIRS, PROMPTS
from browser.guard import Guard
from browser.pictures import FULL_SIDE, SIDE, picture_response
from browser.query import View
from browser.rendering import Templates, static_file, status_and_message
from browser.tables import TABLES, Runs, Snapshot
from rlaif.errors import InputError
from rlaif.report.page import served
from rlaif.storage.files import file_inside

TABS = (("", "Overview"), ("pairs", "Pairs"), ("prompts", "Prompts"), ("dropped", "Dropped"))
KEYS = (
    (("j", "k"), "next, previous row"),
    (("Enter",), "open the prompt of the row"),
    (("n", "p"), "next, previous page"),
    (("/",), "filter"),
    (("1", "…", "5"), "the views above"),
    (("?",), "these keys"),
    (("Esc",), "close, leave the filter"),
)
# The report styles itself inline, so it gets a policy of its own, under which nothing runs, loads or is sent
REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; sandbox"
)


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
    app.add_api_route("/report", site.report, response_class=HTMLResponse)
    app.add_api_route("/static/{name}", static_file, response_class=Response)
    app.add_exception_handler(InputError, site.failed)
    app.add_exception_handler(HTTPException, site.failed)
    return Guard(app, token), token


class Site:
    """The pages of one or two runs. root: the path before every address."""

    def __init__(self, runs: Runs, notes: list[str], root: str) -> None:
        self._runs, self._notes = runs, notes
        self._templates = Templates(root, "browser.js", KEYS)

    def _page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        paths = self._runs.paths
        names = {schema: path.resolve().name for schema, path in paths.items()}
        if len(set(names.values())) < len(names):  # round-1 of two runs
            names = {schema: str(path) for schema, path in paths.items()}
        runs = {"other": "", **names}
        tabs = [*TABS, *([("compare", f"Compared with {runs['other']}")] if runs["other"] else [])]
        return self._templates.page(template, status, runs=runs, tabs=tabs, **values)

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
            report=(self._runs.path / "report.html").is_file(),
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
        shown = self._of_prompt(snapshot, "run", prompt_id)
        in_other = self._runs.other is not None and pages.prompt_row(snapshot, "other", prompt_id) is not None
        return self._page("prompt", active="prompts", in_other=in_other, **shown)

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
        side = FULL_SIDE if full else SIDE
        return picture_response(self._runs.snapshot(), self._runs.paths, prompt_id, index, side)

    def report(self) -> HTMLResponse:
        """The page of `make report` as it lies in the run, with its links into these pages shown."""
        folder = self._runs.path.resolve()
        try:
            page = file_inside("report.html", [folder]).read_bytes()
        except FileNotFoundError:
            raise HTTPException(404, f"this run has no report yet; write it with `make report RUN={folder}`") from None
        return HTMLResponse(served(page), headers={"content-security-policy": REPORT_POLICY})

    def failed(self, request: Request, error: Exception) -> HTMLResponse:
        """An error as one line in a page."""
        status, message = status_and_message(error)
        return self._page("error", status, active="", message=message)


def _page_number(text: str) -> int:
    """Errors: InputError: it is not the number of a page."""
    if not (text.isascii() and text.isdigit() and int(text[:9]) >= 1 and len(text) < 9):
        raise InputError(f"page is {text!r}, expected a number from 1")
    return int(text)
