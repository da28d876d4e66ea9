"""An Engine that advances all of its sequences by one token at a time.

One task steps the engine while any request is unfinished. Between two steps the coroutines that wait for finished
requests run, and make the requests that follow from them. `rlaif.inference.vllm_engine` steps vLLM; `bench.idle`
steps a simulation.
"""

import asyncio
import time
from abc import abstractmethod
from collections.abc import Iterable

from rlaif.inference.engine import Completion, Engine, Request
from rlaif.inference.turns import Steps, Turns


class SteppedEngine(Engine):
    """Requests are prepared when there is room for them, so that few images are in memory at a time."""

    def __init__(self, max_running: int) -> None:
        self.steps: Steps = Steps(max_running)
        self._turns = Turns(max_running * 3 // 2)  # the running ones, and half as many that wait
        self._unfinished: dict[int, asyncio.Future[list[Completion]]] = {}
        self._sequences = 0
        self._stepping: asyncio.Task[None] | None = None

    @abstractmethod
    def _start(self, request: Request) -> int | str:
        """Hand a request to the model. Returns its number; one of REFUSALS where the model cannot take it."""

    @abstractmethod
    def _step(self) -> Iterable[tuple[int, list[Completion]]]:
        """Advance all sequences by one token; the number and the answers of each request that finished thereby."""

    @abstractmethod
    def _abort(self, number: int) -> None:
        """Take a request back."""

    async def answer(self, request: Request) -> list[Completion]:
        """See Engine."""
        async with self._turns.room(request.n):
            number = self._start(request)
            if isinstance(number, str):
                return [Completion("", 0, number)]
            finished: asyncio.Future[list[Completion]] = asyncio.get_running_loop().create_future()
            self._unfinished[number] = finished
            self._sequences += request.n
            if self._stepping is None or self._stepping.done():
                self._stepping = asyncio.create_task(self._step_on())
            try:
                return await finished
            except asyncio.CancelledError:
                self._abort(number)
                raise
            finally:
                del self._unfinished[number]
                self._sequences -= request.n

    async def _step_on(self) -> None:
        """Step while there are unfinished requests. An error of a step is that of all of them."""
        try:
            while self._unfinished:
                running, waiting, started = self._sequences, self._turns.waiting, time.perf_counter()
                finished = list(self._step())
                self.steps.add(running, waiting, time.perf_counter() - started)
                for number, completions in finished:
                    if number in self._unfinished and not self._unfinished[number].done():
                        self._unfinished[number].set_result(completions)
                for _ in range(2):  # whoever waited for an answer; then the tasks that it started
                    await asyncio.sleep(0)
        except Exception as error:
            for future in self._unfinished.values():
                if not future.done():
                    future.set_exception(error)
