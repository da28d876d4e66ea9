"""Pictures from the hosts that `data.image_hosts` names; nothing else is ever asked for.

A URL stands in somebody's table and is followed from inside the user's network. So: http and https to the named hosts
only, where one redirects too; all addresses that a host has must be public ones, and the connection goes to an address
that was looked at (what the name means a moment later changes nothing); no proxy, no cookie, no credentials; an answer
is bounded in bytes and time.
"""

import ipaddress
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from urllib.parse import quote, urljoin, urlsplit

import httpcore2 as http

from generation.unusable import Unusable, redacted

MAX_BYTES = 50 * 2**20
SECONDS = {"connect": 10.0, "read": 10.0, "write": 10.0, "pool": 10.0}  # for each step
SECONDS_IN_ALL = 60.0  # for the body
MAX_REDIRECTS = 3
HEADERS: Mapping[bytes | str, bytes | str] = {
    "Accept": "image/*",
    "Accept-Encoding": "identity",
    "User-Agent": "minicpmv-rlaif",
}


class PublicOnly(http.SyncBackend):
    """Connects to public addresses only."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[http.SOCKET_OPTION] | None = None,
    ) -> http.NetworkStream:
        """To an address of `host`. Errors: Unusable: one of its addresses is not public."""
        return super().connect_tcp(public_address(host, port), port, timeout, local_address, socket_options)


def public_address(host: str, port: int) -> str:
    """An address of a host all of whose addresses are public. Errors: Unusable."""
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise Unusable("url_failed", f"{host} has no address") from error
    if private := [address for address in found if not is_public(address)]:
        raise Unusable("url_not_allowed", f"{host} has the address {private[0]}, which is not public")
    return found[0]


def is_public(address: str) -> bool:
    """Whether an address is one of the whole internet; one that stands for an IPv4 address is as public as that is."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        packed = ip.packed
        if ip.ipv4_mapped or packed[:12] == bytes.fromhex("0064ff9b") + bytes(8):  # NAT64
            return is_public(str(ipaddress.IPv4Address(packed[12:])))
        if ip.sixtofour:
            return is_public(str(ip.sixtofour))
    return ip.is_global and not ip.is_multicast


def fetch(url: str, hosts: Collection[str], pool: http.ConnectionPool | None = None) -> bytes:
    """What lies at a URL of one of the hosts. Errors: Unusable."""
    pool = pool or _pool()
    for _ in range(MAX_REDIRECTS + 1):
        target = allowed(url, hosts)
        try:
            with pool.stream("GET", target, headers=HEADERS, extensions={"timeout": SECONDS}) as response:
                headers = {name.lower(): value for name, value in response.headers}
                if response.status == 200:
                    return _body(url, response)
                if response.status not in (301, 302, 303, 307, 308) or b"location" not in headers:
                    raise Unusable("url_failed", f"{redacted(url)}: status {response.status}")
                url = urljoin(url, headers[b"location"].decode("latin-1"))
        except (http.NetworkError, http.ProtocolError, http.TimeoutException, OSError) as error:
            raise Unusable("url_failed", f"{redacted(url)}: {type(error).__name__}") from error
    raise Unusable("url_failed", f"{redacted(url)}: more than {MAX_REDIRECTS} redirects")


def allowed(url: str, hosts: Collection[str]) -> http.URL:
    """The URL, taken apart, if it is one of http or https at one of the hosts. Errors: Unusable."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError as error:
        raise Unusable("url_not_allowed", f"{redacted(url)}: {error}") from error
    if scheme not in ("http", "https") or host not in hosts:
        raise Unusable("url_not_allowed", f"{redacted(url)} is not at a host of data.image_hosts")
    target = quote(parts.path or "/", safe="%/:@!$&'()*+,;=~")
    if parts.query:
        target += "?" + quote(parts.query, safe="%/:@!$&'()*+,;=~?")
    return http.URL(scheme=scheme, host=host, port=port, target=target)


def _body(url: str, response: http.Response) -> bytes:
    end = time.monotonic() + SECONDS_IN_ALL
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise Unusable("url_failed", f"{redacted(url)}: more than {MAX_BYTES:,} bytes")
        if time.monotonic() > end:
            raise Unusable("url_failed", f"{redacted(url)}: more than {SECONDS_IN_ALL:.0f} seconds")
    return bytes(body)


@cache
def _pool() -> http.ConnectionPool:
    return http.ConnectionPool(network_backend=PublicOnly())
