"""Who runs next in an engine, and how full the engine was.

Requests wait in one queue for all open chunks. A request that follows from an earlier one (the retry of a list, the
claims of a response that was divided) has that one's place in the queue, so it runs before everything that was
requested later: responses are finished one after the other although many are under way, the claims of one image are
verified together, and the oldest chunk is written first. Follows means: requested by the same task, or by one that it
started, after the first request.
"""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_place: ContextVar[int | None] = ContextVar("place", default=None)
_places = itertools.count()


def take_place() -> int:
    """The place in the queue of the task that calls it, and of all tasks that it starts from now on."""
    if (place := _place.get()) is None:
        place = next(_places)
        _place.set(place)
    return place


class Turns:
    """Room for so many sequences at a time; whoever waits for room gets it in the order described above.

    The last one that gets room may need more of it than is left.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._waiting: list[tuple[int, int, int, asyncio.Future[None]]] = []  # a heap: place, number, size, turn
        self._numbers = itertools.count()

    @property
    def waiting(self) -> int:
        """The number of requests that wait for room."""
        return len(self._waiting)

    @asynccontextmanager
    async def room(self, size: int) -> AsyncIterator[None]:
        """Wait for room for `size` sequences, and give it back at the end."""
        place = take_place()
        if self._room <= 0:
            turn = asyncio.get_running_loop().create_future()
            entry = (place, next(self._numbers), size, turn)
            heapq.heappush(self._waiting, entry)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._give_back(size)
                raise
        else:
            self._room -= size
        try:
            yield
        finally:
            self._give_back(size)

    def _give_back(self, size: int) -> None:
        self._room += size
        while self._room > 0 and self._waiting:
            _, _, size, turn = heapq.heappop(self._waiting)
            if not turn.done():  # it was cancelled
                self._room -= size
                turn.set_result(None)


@dataclass
class Steps:
    """How full the steps of an engine were. A step advances all running sequences by one token.

    max_running: most sequences that run at a time. A step is idle if fewer than half of them ran while requests waited
    to run, or chunks waited to be opened (`more_to_come`). At the end of a stage nothing waits any more, so the last
    answers, with the requests that follow from them, are not counted. Sequences count as running from when the engine
    got them; it may hold some back where its KV cache is full.
    """

    max_running: int
    more_to_come: bool = False
    count: int = 0
    idle: int = 0
    seconds: float = 0.0

    def add(self, running: int, waiting: int, seconds: float) -> None:
        """Count one step."""
        self.count += 1
        self.seconds += seconds
        self.idle += bool((waiting or self.more_to_come) and running < self.max_running / 2)
