"""Uploads to the hub: only with `export.push`, to a data set that is private by default."""

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import ConfigError, PushError
from rlaif.interchange.__main__ import main
from tests.support.exported_run import exported, labeled_run

TOKEN = "hf_do_not_tell_anybody"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return labeled_run(tmp_path / "my run")


class Hub(http.server.ThreadingHTTPServer):
    """Double of the hub: creates a data set, accepts files, keeps every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.calls: list[tuple[str, str]] = []
        self.created: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.private = True
        self.refuses = 0  # status code of every answer, if not 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.calls.append(("GET", self.path))
        siblings = [{"rfilename": name} for name in (".gitattributes", *self.server.files)]
        self.answer({"id": "owner/pairs", "sha": "0" * 40, "private": self.server.private, "siblings": siblings})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append(("POST", self.path))
        assert self.headers["Authorization"] == f"Bearer {TOKEN}"
        if self.server.refuses:
            self.answer({"error": f"not with {TOKEN}"}, self.server.refuses)
        elif self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            self.answer({"url": f"{self.server.url}/datasets/owner/pairs"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": f, "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        elif "/commit/" in self.path:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            self.answer({"commitUrl": f"{self.server.url}/datasets/owner/pairs/commit/1", "commitOid": "1" * 40})
        else:
            self.answer({"error": "no such call"}, 404)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_is_sent_without_push(path: Path, hub: Hub) -> None:
    exported(path, "llama-factory", license="mit")
    assert hub.calls == []


def test_a_push_fills_a_private_data_set(path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported(path, "llama-factory", license="mit", push="owner/pairs")
    assert {name: hub.created[name] for name in ("organization", "name", "type", "visibility")} == {
        "organization": "owner",
        "name": "pairs",
        "type": "dataset",
        "visibility": "private",
    }
    assert hub.files == {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }
    printed = capsys.readouterr()
    assert f"pushed   {hub.url}/datasets/owner/pairs/commit/1" in printed.out
    assert TOKEN not in printed.out + printed.err


def test_a_push_needs_a_license(path: Path, hub: Hub) -> None:
    with pytest.raises(ConfigError, match=r"export.license is not set; name the license .* SET="):
        exported(path, "trl", push="owner/pairs")
    assert hub.calls == [] and not (path / "export").exists()


def test_a_push_needs_a_token(path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(PushError, match="no hub token to push owner/pairs; run `hf auth login`, or set HF_TOKEN"):
        exported(path, "trl", license="mit", push="owner/pairs")
    assert hub.calls == []


def test_files_of_others_are_kept(path: Path, hub: Hub) -> None:
    hub.files["theirs.csv"] = b"1"
    with pytest.raises(PushError, match=r"owner/pairs has files that are not in this export, such as theirs.csv"):
        exported(path, "trl", license="mit", push="owner/pairs")
    assert hub.files == {"theirs.csv": b"1"}


def test_a_public_data_set_is_not_filled_by_mistake(path: Path, hub: Hub) -> None:
    hub.private = False
    with pytest.raises(PushError, match=r"owner/pairs is public; push to a new name, or set export.private=false"):
        exported(path, "trl", license="mit", push="owner/pairs")
    assert hub.files == {}
    exported(path, "trl", license="mit", push="owner/pairs", private=False)
    assert hub.created["visibility"] == "public"
    assert set(hub.files) == {"README.md", "train.parquet", "validation.parquet"}


def test_a_refusal_of_the_hub_is_one_line(path: Path, hub: Hub, tmp_path: Path, capsys: Any) -> None:
    hub.refuses = 403
    config = tmp_path / "config.yaml"
    config.write_text("policy: {model: p}\nlabeler: {model: l}\nexport: {license: mit, push: owner/pairs}\n")
    assert main(["--config", str(config), "--run", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: cannot push to owner/pairs (") and error.count("\n") == 1
    assert "403" in error and TOKEN not in error
    assert (path / "export" / "trl" / "train.parquet").is_file()


def test_an_unreachable_hub(path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PushError, match=r"cannot push to owner/pairs \(ConnectError"):
        exported(path, "trl", license="mit", push="owner/pairs")
