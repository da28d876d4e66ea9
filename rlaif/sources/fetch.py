"""Fetch images by URL, from the hosts of `data.image_hosts` only.

A URL comes from a table that someone else wrote, and is requested from inside the user's network. Therefore: http and
https to the listed hosts only, also after redirects; every address of a host must be public, and the connection goes
to an address that was checked, so that a later change of its DNS record has no effect; no proxy, cookies or
credentials; limits on bytes and time.
"""

import ipaddress
import socket
import time
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from urllib.parse import quote, urljoin, urlsplit

import httpcore2 as http

from rlaif.sources.picture import UnusableImageError, redacted

MAX_BYTES = 50 * 2**20
TIMEOUTS = {"connect": 10.0, "read": 10.0, "write": 10.0, "pool": 10.0}  # seconds for each step
MAX_SECONDS = 60.0  # for the body
MAX_REDIRECTS = 3
HEADERS: Mapping[bytes | str, bytes | str] = {
    "Accept": "image/*",
    "Accept-Encoding": "identity",
    "User-Agent": "minicpmv-rlaif",
}


class PublicOnly(http.SyncBackend):
    """A network backend that connects to public addresses only."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[http.SOCKET_OPTION] | None = None,
    ) -> http.NetworkStream:
        """Connect to an address of `host`. Errors: UnusableImageError if one of its addresses is not public."""
        return super().connect_tcp(public_address(host, port), port, timeout, local_address, socket_options)


def public_address(host: str, port: int) -> str:
    """An address of a host, all of whose addresses must be public. Errors: UnusableImageError."""
    try:
        addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise UnusableImageError("url_failed", f"{host} has no address") from error
    if private := [address for address in addresses if not is_public(address)]:
        raise UnusableImageError("url_not_allowed", f"{host} has the address {private[0]}, which is not public")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address is reachable from the whole internet; an embedded IPv4 address decides for its IPv6 form."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        packed = ip.packed
        if ip.ipv4_mapped or packed[:12] == bytes.fromhex("0064ff9b") + bytes(8):  # NAT64
            return is_public(str(ipaddress.IPv4Address(packed[12:])))
        if ip.sixtofour:
            return is_public(str(ip.sixtofour))
    return ip.is_global and not ip.is_multicast


def fetch(url: str, hosts: Collection[str], pool: http.ConnectionPool | None = None) -> bytes:
    """The content of a URL at one of the hosts. Errors: UnusableImageError."""
    pool = pool or _pool()
    for _ in range(MAX_REDIRECTS + 1):
        target = check_url(url, hosts)
        try:
            with pool.stream("GET", target, headers=HEADERS, extensions={"timeout": TIMEOUTS}) as response:
                headers = {name.lower(): value for name, value in response.headers}
                if response.status == 200:
                    return _body(url, response)
                if response.status not in (301, 302, 303, 307, 308) or b"location" not in headers:
                    raise UnusableImageError("url_failed", f"{redacted(url)}: status {response.status}")
                url = urljoin(url, headers[b"location"].decode("latin-1"))
        except (http.NetworkError, http.ProtocolError, http.TimeoutException, OSError) as error:
            raise UnusableImageError("url_failed", f"{redacted(url)}: {type(error).__name__}") from error
    raise UnusableImageError("url_failed", f"{redacted(url)}: more than {MAX_REDIRECTS} redirects")


def check_url(url: str, hosts: Collection[str]) -> http.URL:
    """The parsed URL if it is http or https at one of the hosts. Errors: UnusableImageError."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError as error:
        raise UnusableImageError("url_not_allowed", f"{redacted(url)}: {error}") from error
    if scheme not in ("http", "https") or host not in hosts:
        raise UnusableImageError("url_not_allowed", f"{redacted(url)} is not a web URL at a host of data.image_hosts")
    target = quote(parts.path or "/", safe="%/:@!$&'()*+,;=~")
    if parts.query:
        target += "?" + quote(parts.query, safe="%/:@!$&'()*+,;=~?")
    return http.URL(scheme=scheme, host=host, port=port, target=target)


def _body(url: str, response: http.Response) -> bytes:
    end = time.monotonic() + MAX_SECONDS
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise UnusableImageError("url_failed", f"{redacted(url)}: more than {MAX_BYTES:,} bytes")
        if time.monotonic() > end:
            raise UnusableImageError("url_failed", f"{redacted(url)}: more than {MAX_SECONDS:.0f} seconds")
    return bytes(body)


@cache
def _pool() -> http.ConnectionPool:
    return http.ConnectionPool(network_backend=PublicOnly())
