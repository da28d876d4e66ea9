"""Serves pages on loopback, at the first free port, until Ctrl-C."""

import socket
from contextlib import suppress

from starlette.types import ASGIApp

from rlaif.errors import ConfigError

LOOPBACK = "127.0.0.1"
PORTS_TRIED = 50


def free_port(port: int) -> socket.socket:
    """A socket that listens on loopback, at the first free port from `port`. Errors: ConfigError: none is free."""
    for number in range(port, min(port + PORTS_TRIED, 65536)):
        try:
            return socket.create_server((LOOPBACK, number))
        except OSError:  # taken, or one that only root may use
            continue
    raise ConfigError(f"no port from {port} to {number} can be used on {LOOPBACK}; give another PORT=")


def serve_until_interrupted(app: ASGIApp, listening: socket.socket) -> None:
    """Serve an application without logs of its requests, whose addresses have the token."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def address(listening: socket.socket, token: str) -> str:
    """The address of the first page."""
    return f"http://{LOOPBACK}:{listening.getsockname()[1]}/{token}/"
