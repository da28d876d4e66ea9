"""A double of the Hugging Face hub: serves one data set over HTTP, as far as `datasets` asks, and counts the bytes."""

import json
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

COMMIT = "a" * 40


class HubServer:
    """Serves `files`, by their paths, as the data set `owner/name`; a context manager.

    endpoint: for HF_ENDPOINT. served: bytes of each file that were sent.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.served: Counter[str] = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "HubServer":
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def entries(self, folder: str, recursive: bool) -> list[dict[str, Any]]:
        """The files, and folders, below a folder, as the hub lists them."""
        below = [path for path in self.files if not folder or path.startswith(f"{folder}/")]
        start = len(folder) + 1 if folder else 0
        folders = {path[: path.index("/", start)] for path in below if "/" in path[start:]}
        files = [path for path in below if recursive or "/" not in path[start:]]
        return [*map(self.entry, sorted(folders)), *map(self.entry, files)]

    def entry(self, path: str) -> dict[str, Any]:
        kind = "file" if path in self.files else "directory"
        return {"type": kind, "oid": "b" * 40, "size": len(self.files.get(path, b"")), "path": path}


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body).get("paths", [])
            known = [path for path in paths if hub.entries(path, True) or path in hub.files]
            self._send_json([hub.entry(path) for path in known])

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            _, _, rest = url.path.partition("owner/name")
            action, _, path = rest.strip("/").partition("/")
            path = path.partition("/")[2]  # behind the revision
            if url.path.startswith("/api/") and action == "tree":
                self._send_json(hub.entries(path, "recursive=true" in url.query.lower()))
            elif url.path.startswith("/api/datasets/owner/name") and action in ("", "revision"):
                siblings = [{"rfilename": name} for name in hub.files]
                self._send_json({"id": "owner/name", "sha": COMMIT, "tags": [], "siblings": siblings, "private": False})
            elif action == "resolve" and path in hub.files:
                self._send_file(path)
            else:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

        def _send_file(self, path: str) -> None:
            content, headers = hub.files[path], {"X-Repo-Commit": COMMIT, "ETag": f'"{path}"', "Accept-Ranges": "bytes"}
            status, span = 200, self.headers.get("Range")
            if span is not None:
                first, _, last = span.removeprefix("bytes=").partition("-")
                end = min(int(last or len(content)) + 1, len(content))
                headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
                status, content = 206, content[int(first) : end]
            if self.command == "GET":
                hub.served[path] += len(content)
            self._send(status, content, headers)

        def _send_json(self, content: object) -> None:
            self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler
