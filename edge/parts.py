"""A part of the work in a process of its own: its memory goes back when it ends, and its peak is its own.

A part that is ended by the machine (an instruction that the processor does not have, no memory left) is one line for
the user, not a crash.
"""

import signal
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar, cast

from edge.memory import peak_memory
from rlaif.errors import ModelError

Result = TypeVar("Result")


def run_part(name: str, function: Callable[..., Result], *arguments: Any) -> tuple[Result, int]:
    """The result of `function`, which a module has at its top, and the peak memory of its process in bytes.

    Errors: what the function raises; ModelError where its process was ended. name: of the part, for that message.
    """
    context = get_context("spawn")  # a fork would begin with the memory of this process
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, function, arguments), name=name, daemon=True)
    process.start()
    sender.close()
    try:
        outcome, peak = receiver.recv()
    except EOFError:
        process.join()
        raise ModelError(f"the part {name!r} {ended(process.exitcode)}") from None
    process.join()
    if isinstance(outcome, BaseException):
        raise outcome
    return cast(Result, outcome), peak


def ended(status: int | None) -> str:
    """Why a process ended without a result, and what to do, by its exit status."""
    if status == -signal.SIGILL:
        return "ran an instruction that this machine does not have; build for it again with `make edge-runtime`"
    if status == -signal.SIGKILL:
        return "was killed, most likely because the machine has no memory left; use a smaller QUANT, or close programs"
    if status is not None and status < 0:
        return f"was ended by the signal {signal.Signals(-status).name}; run `make edge-runtime TARGET=portable`"
    return f"ended with status {status} and no result; run it again"


def _work(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    outcome: Any
    try:
        outcome = function(*arguments)
    except Exception as error:
        if notes := traceback.format_exc():
            error.add_note(notes)
        outcome = error
    sender.send((outcome, peak_memory()))
    sender.close()
