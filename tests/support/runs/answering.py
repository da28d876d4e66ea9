"""Someone who answers an audit over HTTP, as a browser without JavaScript would."""

import re
from html import unescape
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from browser.audit.app import create_app
from browser.tables import Runs
from evaluation.audit.store import Audit, read_verdicts

TOKEN = "a-token-of-the-tests"
HERE = "http://127.0.0.1:8000"
ORIGIN = {"origin": HERE}


class Person:
    """Someone who answers without a browser. path: of the run."""

    def __init__(self, path: Path, name: str = "Ann", audit: Audit | None = None) -> None:
        self.path, self.name = path, name
        self.audit = audit or Audit.open(path, 20, 0)
        app, _ = create_app(self.audit, Runs(path), ["a note"], TOKEN)
        self.client = TestClient(app, base_url=HERE, follow_redirects=False)

    def get(self, path: str, status: int = 200, **query: str) -> str:
        answer = self.client.get(f"/{TOKEN}/{path}", params=query or None)
        assert answer.status_code == status, answer.text
        return str(answer.headers["location"] if status == 303 else answer.text)

    def next(self) -> str:
        """The address of the next item."""
        return self.get("next", 303, person=self.name).removeprefix(f"/{TOKEN}/")

    def fields(self, text: str) -> dict[str, str]:
        """The form of a page, as a browser would send it."""
        found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text)
        return {name: unescape(value) for name, value in found}

    def send(self, fields: dict[str, str], headers: dict[str, str] | None = None) -> Any:
        return self.client.post(f"/{TOKEN}/answer", data=fields, headers=ORIGIN if headers is None else headers)

    def answer(self, answer: str, address: str = "", **fields: str) -> str:
        """Answers an item, by default the next one; returns where the browser is sent."""
        sent = {**self.fields(self.get(address or self.next())), "answer": answer, **fields}
        response = self.send(sent)
        assert response.status_code == 303, response.text
        return str(response.headers["location"]).removeprefix(f"/{TOKEN}/")

    def verdicts(self) -> list[tuple[str, str, str]]:
        return [(row["person"], row["item_id"], row["answer"]) for row in read_verdicts(self.path)]
