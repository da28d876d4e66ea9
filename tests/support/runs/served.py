"""Pages that are served by a thread of this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from starlette.types import ASGIApp

from browser.serving import address, free_port


@contextmanager
def served(app: ASGIApp, token: str) -> Iterator[str]:
    """The address of the first page of an application."""
    import uvicorn

    listening = free_port(21_000)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", ws="none"))
    thread = Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield address(listening, token)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
