"""The routes of an audit. Each item has an address, which says who is asked; a verdict is the only thing that is sent.

A verdict is saved before the next item is shown, and each page shows what is on disk: a reload, a second tab, a second
person or a new start of the command go on from there.
"""

import secrets
import time
import unicodedata
from collections import Counter
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from browser.audit.items import read_items
from browser.guard import Guard
from browser.pictures import FULL_SIDE, picture_response
from browser.rendering import Templates, static_file, status_and_message
from browser.tables import Runs
from evaluation.audit.figures import FALSE, FOREIGN, TRUE, UNCLEAR
from evaluation.audit.store import CANNOT_TELL, EQUAL, FIRST, SECOND, TABLE, Audit, Kind
from rlaif.errors import InputError

KINDS: tuple[Kind, Kind] = ("claim", "pair")
Key = tuple[Kind, str]  # of an item: its kind and id
ANSWERS: dict[Kind, tuple[tuple[str, str, str], ...]] = {  # answer, its keys, what it means
    "claim": (
        (TRUE, "t", "the picture shows what the claim says"),
        (FALSE, "f", "the picture shows something else, or nothing of the kind"),
        (UNCLEAR, "c", "the picture does not decide it, or the claim cannot be understood"),
        (FOREIGN, "x", "the response does not say this, whether or not it is true"),
    ),
    "pair": (
        (FIRST, "1", "the first answer says fewer false things about the picture"),
        (SECOND, "2", "the second one does"),
        (EQUAL, "0 e", "both are equally good or bad in this"),
        (CANNOT_TELL, "c", "the picture does not decide it"),
    ),
}
MOVES = (
    (("u",), "back to what you answered last, to answer it again: the last answer counts"),
    (("n",), "on to the next item that you have not answered"),
    (("z",), "the picture in full size, in a tab of its own"),
    (("?",), "these keys"),
)
PICTURE_SIDE = 1280  # pixels of the longer side
NAME_LENGTH = 60
MOST_BYTES = 16_384  # of a verdict that is sent


def create_app(audit: Audit, runs: Runs, notes: list[str], token: str | None = None) -> tuple[ASGIApp, str]:
    """The application and its token, a new one unless it is given. notes: lines for the first page.

    Errors: InputError: a table lacks what the sample names.
    """
    token = token or secrets.token_urlsafe(24)
    app = FastAPI(title="audit", openapi_url=None, docs_url=None, redoc_url=None)
    site = AuditSite(audit, runs, notes, f"/{token}")
    app.add_api_route("/", site.start, response_class=HTMLResponse)
    app.add_api_route("/next", site.next, response_class=RedirectResponse)
    app.add_api_route("/item", site.item, response_class=HTMLResponse)
    app.add_api_route("/done", site.done, response_class=HTMLResponse)
    app.add_api_route("/answer", site.answer, methods=["POST"], response_class=RedirectResponse)
    app.add_api_route("/picture/{prompt_id}/{index}", site.picture, response_class=Response)
    app.add_api_route("/static/{name}", static_file, response_class=Response)
    for kind in (InputError, HTTPException, OSError):
        app.add_exception_handler(kind, site.failed)
    return Guard(app, token, {"/answer"}), token


class AuditSite:
    """The pages of an audit. root: the path before every address."""

    def __init__(self, audit: Audit, runs: Runs, notes: list[str], root: str) -> None:
        self._audit, self._runs, self._notes = audit, runs, notes
        self._items = read_items(runs.snapshot(), audit)
        self._templates = Templates(root, "audit.js", MOVES)

    def start(self) -> HTMLResponse:
        people = [{"name": name, "left": self._left(name)} for name in self._audit.people()]
        return self._page("start", notes=self._notes, people=people, answers=ANSWERS, moves=MOVES)

    def next(self, person: str = "") -> RedirectResponse:
        """To the first item that a person has not answered."""
        return self._to_next(self._person(person))

    def item(self, person: str = "", kind: str = "", id: str = "") -> HTMLResponse:
        person = self._person(person)
        known = next((known for known in KINDS if known == kind), None)
        if known is None or (kind, id) not in self._items:
            raise HTTPException(404, f"{kind} {id!r} is not in the sample of this audit; begin at its first page")
        here: Key = (known, id)
        history = self._audit.history(person)
        before = list(history)  # what was answered before this item: the last of it is where u leads
        if here in history:
            before = before[: before.index(here)]
        following = [key for key in self._open(person) if key != here][:1]
        return self._page(
            known,
            person=person,
            kind=known,
            id=id,
            item=self._items[here],
            number=1 + sum(answered_kind == known for answered_kind, _ in before),
            shown=f"{time.time():.3f}",
            answers=ANSWERS[known],
            earlier=history.get(here, ""),
            previous=self._address(person, *before[-1]) if before else "",
            prefetch=[
                self._templates.url("picture", self._items[key].prompt_id, str(number))
                for key in following
                for number in range(self._items[key].pictures)
            ],
            keys=[(keys.split(), answer) for answer, keys, _ in ANSWERS[known]] + list(MOVES),
            left=self._left(person),
        )

    def done(self, person: str = "") -> HTMLResponse:
        person = self._person(person)
        history = self._audit.history(person)
        said = {kind: Counter(answer for key, answer in history.items() if key[0] == kind) for kind in KINDS}
        return self._page(
            "done",
            person=person,
            said=said,
            answers=ANSWERS,
            table=TABLE,
            path=str(self._audit.path),
            others=[{"name": name, "left": self._left(name)} for name in self._audit.people() if name != person],
            previous=self._address(person, *list(history)[-1]) if history else "",
            left=self._left(person),
        )

    async def answer(self, request: Request) -> RedirectResponse:
        """Save a verdict and go to the next item."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                raise HTTPException(413, f"this has more than {MOST_BYTES} bytes; nothing is saved")
        sent = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
        return await run_in_threadpool(self._save, {name: values[-1] for name, values in sent.items()})

    def _save(self, sent: dict[str, str]) -> RedirectResponse:
        if missing := {"person", "kind", "id", "answer", "shown"} - sent.keys():
            raise InputError(f"the verdict has no {', '.join(sorted(missing))}; nothing is saved, reload the page")
        person = self._person(sent["person"])
        kind = next((known for known in KINDS if known == sent["kind"]), None)
        if kind is None:
            raise InputError(f"kind is {sent['kind']!r}, expected one of {', '.join(KINDS)}; reload the page")
        # measured in the page; without its script from when the page was made
        seconds = _seconds(sent.get("seconds") or str(max(0.0, time.time() - _seconds(sent["shown"]))))
        self._audit.record(kind, sent["id"], sent["answer"], person, seconds)
        return self._to_next(person)

    def picture(self, prompt_id: str, index: str, full: str = "") -> Response:
        side = FULL_SIDE if full else PICTURE_SIDE
        return picture_response(self._runs.snapshot(), self._runs.paths, prompt_id, index, side)

    def failed(self, request: Request, error: Exception) -> HTMLResponse:
        """An error as one line in a page."""
        status, message = status_and_message(error)
        if isinstance(error, OSError):  # a full disk
            status = 500
        if status == 500 and request.method == "POST":
            message += "; the verdict is not saved: fix it, go back and answer again"
        return self._page("failed", status, message=message)

    def _page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        sample = self._audit.sample
        return self._templates.page(
            f"audit/{template}",
            status,
            **{"runs": {"run": self._audit.path.resolve().name}, "person": "", **values},
            totals={kind: len(sample[f"{kind}s"]) for kind in KINDS},
        )

    def _person(self, text: str) -> str:
        """A name as it is recorded: that of someone who has begun, whatever the case of its letters."""
        name = unicodedata.normalize("NFC", " ".join(text.split()))
        if not name or len(name) > NAME_LENGTH or not name.isprintable():
            raise InputError(
                f"the name is {text[:NAME_LENGTH]!r}, expected 1 to {NAME_LENGTH} letters, by which people are told "
                "apart; give another one on the first page"
            )
        return {known.casefold(): known for known in self._audit.people()}.get(name.casefold(), name)

    def _open(self, person: str) -> list[Key]:
        return [(kind, item) for kind in KINDS for item in self._audit.open_items(kind, person)]

    def _left(self, person: str) -> dict[str, int]:
        return {kind: len(self._audit.open_items(kind, person)) for kind in KINDS}

    def _address(self, person: str, kind: Kind, item: str) -> str:
        return self._templates.url("item", person=person, kind=kind, id=item)

    def _to_next(self, person: str) -> RedirectResponse:
        left = self._open(person)
        address = self._address(person, *left[0]) if left else self._templates.url("done", person=person)
        return RedirectResponse(address, 303)


def _seconds(text: str) -> float:
    """Errors: InputError: it is not a number from 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"seconds is {text!r}, expected a number from 0; nothing is saved, reload the page")
    return value
