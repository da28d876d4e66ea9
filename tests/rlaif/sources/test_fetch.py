"""Images by URL: from listed hosts only, never from private addresses, and within limits."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpcore2
import pyarrow as pa
import pytest

from rlaif.config import DataSection
from rlaif.sources import fetch as fetching
from rlaif.sources.fetch import PublicOnly, check_url, fetch, is_public, public_address
from rlaif.sources.picture import UnusableImageError, redacted
from tests.support.photographs import collect, encoded, parquet_file, photo

PNG = encoded(photo(40, 40), "PNG")
SECRET = "hf_thisIsASecretThatNobodyMaySee"
HOST = "pictures.example"


class Server(BaseHTTPRequestHandler):
    """Answers depending on the path, and records the paths that were requested."""

    requested: list[str]

    def do_GET(self) -> None:
        self.requested.append(self.path)
        assert not {"authorization", "cookie"} & {name.lower() for name in self.headers}
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/huge":
            self.send_response(200)
            self.end_headers()
            for _ in range(64):
                self.wfile.write(bytes(2**20))
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x")
            self.wfile.flush()
            self.server.stop.wait(20)  # type: ignore[attr-defined]
        else:
            self.send_response(200 if self.path.startswith("/a.png") else 404)
            self.end_headers()
            self.wfile.write(PNG)

    def log_message(self, *_: Any) -> None:
        """Tests print nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Server.requested = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a refused client closes the connection
    server.stop = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.stop.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


class OneHost(PublicOnly):
    """Treats the server as a public address of HOST, and checks all other addresses."""

    def connect_tcp(self, host: str, port: int, *rest: Any, **more: Any) -> httpcore2.NetworkStream:
        if host == HOST:
            return httpcore2.SyncBackend().connect_tcp("127.0.0.1", port, *rest, **more)
        return super().connect_tcp(host, port, *rest, **more)


@contextmanager
def pool() -> Iterator[httpcore2.ConnectionPool]:
    with httpcore2.ConnectionPool(network_backend=OneHost()) as connections:
        yield connections


def refused(url: str, hosts: set[str]) -> tuple[str, str]:
    """The reason and detail of a refused URL."""
    with pool() as connections, pytest.raises(UnusableImageError) as caught:
        fetch(url, hosts, connections)
    return caught.value.reason, str(caught.value)


def test_an_image_of_a_listed_host_is_fetched_also_through_redirects(server: ThreadingHTTPServer) -> None:
    base = f"http://{HOST}:{server.server_port}"
    with pool() as connections:
        assert fetch(f"{base}/a.png", {HOST}, connections) == PNG
        assert fetch(f"{base}/to//a.png?key=1", {HOST}, connections) == PNG
        assert fetch(f"{base}/to/{base}/to//a.png#part", {HOST}, connections) == PNG
    assert len(Server.requested) == 6


def test_hosts_that_are_not_listed_get_no_request(server: ThreadingHTTPServer) -> None:
    port = server.server_port
    for url in (
        f"http://{HOST}:{port}/a.png",
        f"http://other.example@{HOST}:{port}/a.png",
        f"ftp://other.example:{port}/a.png",
        f"http://other.example.{HOST}:{port}/a.png",
        f"http://OTHER.example\\@{HOST}:{port}/a.png",
        "http://[::1/a.png",
        "http:///a.png",
        "http://other.example:99999/a.png",
    ):
        assert refused(url, {"other.example"})[0] == "url_not_allowed", url
        assert refused(url, set())[0] == "url_not_allowed"
    assert not Server.requested


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "2130706433", "0x7f.1", "127.1"])
def test_a_listed_host_at_a_private_address_gets_no_request(host: str, server: ThreadingHTTPServer) -> None:
    reason, detail = refused(f"http://{host}:{server.server_port}/a.png", {host})
    assert reason == "url_not_allowed" and "which is not public" in detail
    assert not Server.requested


def test_redirects_are_checked_like_any_url(server: ThreadingHTTPServer) -> None:
    port = server.server_port
    base = f"http://{HOST}:{port}"
    everything = {HOST, "127.0.0.1", "localhost", "169.254.169.254"}
    for target in (
        f"http://127.0.0.1:{port}/a.png",
        f"http://localhost:{port}/a.png",
        "http://169.254.169.254/latest/",
    ):
        reason, detail = refused(f"{base}/to/{target}", everything)
        assert reason == "url_not_allowed" and "which is not public" in detail
    for target in (f"http://127.0.0.1:{port}/a.png", "//other.example/a.png", "file:///etc/passwd", "ftp://x/y"):
        reason, detail = refused(f"{base}/to/{target}", {HOST})
        assert reason == "url_not_allowed" and "is not a web URL at a host of data.image_hosts" in detail
    assert all(path.startswith("/to/") for path in Server.requested), "no target was requested"
    reason, detail = refused(f"{base}/to/" * 4 + f"{base}/a.png", {HOST})
    assert (reason, detail.rpartition(": ")[2]) == ("url_failed", "more than 3 redirects")


def test_answers_are_limited_in_bytes_and_time(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MAX_BYTES", 2**20)
    monkeypatch.setattr(fetching, "TIMEOUTS", dict.fromkeys(fetching.TIMEOUTS, 0.5))
    base = f"http://{HOST}:{server.server_port}"
    assert refused(f"{base}/huge", {HOST}) == ("url_failed", f"{base}/huge: more than 1,048,576 bytes")
    assert refused(f"{base}/slow", {HOST}) == ("url_failed", f"{base}/slow: ReadTimeout")
    assert refused(f"{base}/gone", {HOST}) == ("url_failed", f"{base}/gone: status 404")


def test_the_address_that_was_checked_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["93.184.216.34", "127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (next(answers), 80))])
    connected: list[str] = []

    def connect(_: Any, host: str, *rest: Any) -> Any:
        connected.append(host)
        raise httpcore2.ConnectError

    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", connect)
    with pytest.raises(httpcore2.ConnectError):
        PublicOnly().connect_tcp("turns.example", 80)
    assert connected == ["93.184.216.34"]
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (it, 80)) for it in ("1.1.1.1", "10.0.0.1")]
    )
    with pytest.raises(UnusableImageError, match=r"both\.example has the address 10\.0\.0\.1"):
        public_address("both.example", 80)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        *[(address, False) for address in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254")],
        *[(address, False) for address in ("0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255", "198.18.0.1")],
        *[
            (address, False)
            for address in ("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1")
        ],
        *[(address, False) for address in ("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::")],
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) == public


def test_urls_in_a_table_are_dropped_unless_their_host_is_listed(tmp_path: Path, server: ThreadingHTTPServer) -> None:
    url = f"http://user:{SECRET}@127.0.0.1:{server.server_port}/a.png?key={SECRET}"
    images = pa.array([url, f"https://nowhere.example/b.png?sig={SECRET}"])
    data = parquet_file(tmp_path / "data", images, ["q", "q"])
    rows, drops = collect(data)
    assert not rows and {reason for _, reason, _ in drops} == {"url_not_allowed"}
    assert not Server.requested and not any(SECRET in detail for *_, detail in drops)
    rows, drops = collect(data.model_copy(update={"image_hosts": ["127.0.0.1"]}))
    assert not rows and {reason for _, reason, _ in drops} == {"url_not_allowed"}
    assert not Server.requested and any("which is not public" in detail for *_, detail in drops)
    with pytest.raises(ValueError, match=r"image_hosts has 'https://a\.example'; expected host names"):
        DataSection(image_hosts=["https://a.example"])


def test_redacted_urls_contain_no_key() -> None:
    assert redacted(f"https://me:{SECRET}@a.example/b/c.png?x={SECRET}#{SECRET}") == "https://a.example/b/c.png"
    assert redacted("b/c.png?x#1") == "b/c.png?x#1"
    assert str(check_url("https://a.example/\u00e4 b?q= \r\n", {"a.example"}).target) == "b'/%C3%A4%20b?q=%20'"
