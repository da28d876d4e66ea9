"""Engines that work on several chunks at a time: what they have in common, and the engine in this process."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

from rlaif.inference.engine import Engine
from rlaif.inference.work.chunks import Chunk, EngineSpec

Result = TypeVar("Result")
Action = Callable[[Engine, Chunk], Coroutine[Any, Any, Result]]


@dataclass
class Use:
    """What engines did for a stage: seconds since each got its first chunk, their sum, and in how many steps.

    idle, steps, step_seconds: see `rlaif.inference.turns.Steps`; 0 for engines that do not know their steps.
    """

    seconds: float = 0.0
    steps: int = 0
    idle: int = 0
    step_seconds: float = 0.0

    @classmethod
    def of_all(cls, uses: Iterable["Use"]) -> "Use":
        """What several engines did together."""
        total = cls()
        for use in uses:
            total.add(use)
        return total

    def add(self, other: "Use") -> None:
        """Count what other engines did."""
        self.seconds += other.seconds
        self.steps += other.steps
        self.idle += other.idle
        self.step_seconds += other.step_seconds

    def figures(self) -> dict[str, float | int | None]:
        """The values for metrics.json."""
        return {
            "seconds": round(self.seconds, 3),
            "engine_steps": self.steps or None,
            "engine_step_seconds": round(self.step_seconds, 3) if self.steps else None,
            "engine_idle_share": round(self.idle / self.steps, 4) if self.steps else None,
        }


class Worker(Generic[Result]):
    """An engine with the action that it applies to each chunk."""

    def __init__(self, spec: EngineSpec, action: Action[Result]) -> None:
        self.engine = spec.open()
        self._action = action
        self._started: float | None = None
        self.expect_more(True)

    def expect_more(self, more: bool) -> None:
        """Whether chunks will come, see Steps."""
        if self.engine.steps is not None:
            self.engine.steps.more_to_come = more

    async def run(self, chunk: Chunk) -> Result:
        """The result of the action. Errors: what it raises; ModelError where the engine cannot do its work."""
        self._started = self._started or perf_counter()
        result = await self._action(self.engine, chunk)
        await self.engine.check()
        return result

    def use(self) -> Use:
        """What the engine did since its first chunk."""
        steps = self.engine.steps
        seconds = perf_counter() - self._started if self._started else 0.0
        return Use(seconds, steps.count, steps.idle, steps.seconds) if steps else Use(seconds)


@dataclass(frozen=True)
class Done(Generic[Result]):
    """A chunk that is finished, by its number, with its result or its error."""

    number: int
    result: Result | None = None
    error: BaseException | None = None


class Workers(Protocol[Result]):
    """One or several engines, wherever they are."""

    count: int

    def submit(self, worker: int, number: int, chunk: Chunk) -> None:
        """Let a worker begin with a chunk."""

    def no_more(self) -> None:
        """Every chunk was submitted."""

    def wait(self) -> Sequence[Done[Result]]:
        """Wait until some of the open chunks are finished."""

    def use(self) -> Use:
        """What the engines did, as of the last finished chunk of each."""

    def close(self) -> None:
        """Stop what is open, and close the engines."""


class Here(Workers[Result]):
    """One engine in this process. It stands still while a result is written."""

    count = 1

    def __init__(self, spec: EngineSpec, action: Action[Result]) -> None:
        self._worker = Worker(spec, action)
        self._runner = asyncio.Runner()
        self._tasks: dict[asyncio.Task[Result], int] = {}

    def submit(self, worker: int, number: int, chunk: Chunk) -> None:
        """See Workers."""
        self._tasks[self._runner.get_loop().create_task(self._worker.run(chunk))] = number

    def no_more(self) -> None:
        """See Workers."""
        self._worker.expect_more(False)

    def wait(self) -> Sequence[Done[Result]]:
        """See Workers."""
        done, _ = self._runner.run(_first_completed(self._tasks))
        finished = []
        for task in done:
            number = self._tasks.pop(task)
            error = task.exception()
            finished.append(Done(number, None if error else task.result(), error))
        return finished

    def use(self) -> Use:
        """See Workers."""
        return self._worker.use()

    def close(self) -> None:
        """See Workers."""
        try:
            self._runner.close()  # cancels what is open
        finally:
            self._worker.engine.close()


async def _first_completed(
    tasks: Iterable[asyncio.Task[Result]],
) -> tuple[set[asyncio.Task[Result]], set[asyncio.Task[Result]]]:
    return await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
