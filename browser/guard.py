"""Lets a request through to the pages only if it comes from this machine's browser and has the token.

Other web pages can send requests to loopback: by their own name, made to resolve to 127.0.0.1, or by guessing the
port. So each request must name a loopback host and begin with the token, which is compared in constant time.
What changes something must also come from a page of this very address.
"""

import hmac
from collections.abc import Container

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = {"127.0.0.1", "localhost", "[::1]"}  # any port: it may be forwarded
SAME = "same-origin"
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": SAME,  # no-referrer would make the Origin of a form null
    "cross-origin-opener-policy": SAME,
    "cross-origin-resource-policy": SAME,
}


class Guard:
    """Wraps an ASGI application, which gets the path without the token. posts: the paths that take POST."""

    def __init__(self, app: ASGIApp, token: str, posts: Container[str] = ()) -> None:
        self._app, self._token, self._posts = app, token.encode(), posts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**HEADERS, "cache-control": "no-store"}.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} requests are not served")
        if (refusal := self._refusal(scope)) is not None:
            await refusal(scope, receive, send_with_headers)
            return
        await self._app({**scope, "path": _path(scope)}, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _without_port(hosts[0]) not in HOSTS:
            return PlainTextResponse("error: the Host of this request is not this machine\n", 403)
        first = scope["path"].removeprefix("/").partition("/")[0]
        if not hmac.compare_digest(first.encode("utf-8", "surrogatepass"), self._token):
            return PlainTextResponse("error: the token is wrong or missing; open the address that was printed\n", 403)
        if scope["method"] == "POST" and _path(scope) in self._posts:
            if headers.getlist("origin") != [f"http://{hosts[0]}"] or headers.get("sec-fetch-site", SAME) != SAME:
                return PlainTextResponse("error: this was not sent by a page of this address; nothing is saved\n", 403)
        elif scope["method"] != "GET":
            return PlainTextResponse("error: nothing can be changed here; only GET is served\n", 405)
        return None


def _path(scope: Scope) -> str:
    """The path without the token."""
    return "/" + str(scope["path"]).removeprefix("/").partition("/")[2]


def _without_port(host: str) -> str:
    """127.0.0.1:8000 -> 127.0.0.1; [::1]:8000 -> [::1]."""
    name, separator, port = host.rpartition(":")
    return name.lower() if separator and port.isdigit() else host.lower()
