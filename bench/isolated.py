"""Measurements in a new process: earlier work does not warm them up or count in their peak memory."""

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any


def run_isolated(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of `work(*arguments)` in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


class PartFailed(Exception):
    """Work in another process failed, died or took too long; the message is one line."""


def reports(seconds: float, work: Callable[..., Any], *arguments: Any) -> Generator[Any]:
    """What `work(report, *arguments)` reports by calling `report(value)`, in a new process, as it comes.

    After `seconds` the process is ended, with those that it started. Errors: PartFailed.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, work, arguments))
    until = time.monotonic() + seconds
    process.start()
    sender.close()
    try:
        while True:
            if not receiver.poll(max(until - time.monotonic(), 0)):
                raise PartFailed(f"took longer than its {seconds:.0f} seconds")
            kind, value = receiver.recv()
            if kind == "error":
                raise PartFailed(value)
            if kind == "end":
                return
            yield value
    except EOFError:
        process.join()
        raise PartFailed(f"its process died with exit status {process.exitcode}") from None
    finally:
        _end_group(process.pid)
        process.kill()  # it may not have a group yet
        process.join()


def _run(sender: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setsid()  # a group of its own: engines start processes
    try:
        work(lambda value: sender.send(("value", value)), *arguments)
    except Exception as error:  # whatever it is, the other parts go on
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        sender.send(("error", f"{type(error).__name__}: {lines[0]}"))
    else:
        sender.send(("end", None))


def _end_group(group: int | None) -> None:
    if group is not None:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return  # all of them have ended


def peak_memory() -> float:
    """Peak memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
