"""Chunks of prompts through one engine or several, without waiting between them.

`map_chunks` keeps several chunks open at each engine, so that requests of the next ones run while the last answers of a
chunk are written; results come in the order of the chunks, so the tables are the same from any number of engines. The
engines are here, in processes of this machine (`rlaif.inference.work.processes`) or in actors on a Ray cluster
(`rlaif.inference.work.ray_actors`).

A chunk holds row locations, not rows: whoever has the engine reads the rows from the run folder, so that no image
passes through the process that distributes chunks and writes tables. On several machines all must see the same run
folder. A chunk that was finished but not yet written when the stage is killed is computed again.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

from rlaif.config import EngineSection, ModelSection
from rlaif.inference.engine import Engine, OpenEngine
from rlaif.progress import progress_bar
from rlaif.storage.rows import RowLocations
from rlaif.storage.tables import Row

OPEN_AT_ONCE = 4  # chunks at each engine
AHEAD = 4  # as many chunks as are open, times this, may be finished before the oldest one is: bounds memory

Result = TypeVar("Result")


@dataclass(frozen=True)
class Chunk:
    """Some prompts, as the locations of their rows in each table."""

    num_prompts: int
    tables: dict[str, RowLocations]


@dataclass(frozen=True)
class EngineSpec:
    """A model and how to serve it: all that a worker needs to open its engine."""

    model: ModelSection
    engine: EngineSection
    seed: int
    open_engine: OpenEngine

    def open(self) -> Engine:
        """A new engine; the caller closes it."""
        return self.open_engine(self.model, self.engine, self.seed)


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


def batch_by_image(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Batches of `size` rows, extended to the last row's image: all questions about an image share one cache."""
    batch: list[Row] = []
    for row in rows:
        if len(batch) >= size and row["image_sha256"] != batch[-1]["image_sha256"]:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def map_chunks(
    spec: EngineSpec,
    chunks: Iterable[Chunk],
    action: Action[Result],
    description: str,
    remaining: int,
    done: int,
    use: Use | None = None,
) -> Generator[Result, None, None]:
    """The result of `action` for each chunk, in order, under one progress bar over all prompts.

    Without chunks no engine is opened.

    Args:
        remaining, done: numbers of prompts in `chunks`, and on disk when the stage started.
        use: gets what the engines did, at the end.
    Errors:
        ModelError: a model failed, a process with an engine ended, or there is no Ray cluster.
        ConfigError: more engines than GPUs.
    """
    chunks = iter(chunks)
    first = next(chunks, None)
    if first is None:
        return
    with (
        closing(open_workers(spec, action)) as workers,
        progress_bar(description, "prompt", done + remaining, done) as bar,
    ):
        for num_prompts, result in in_order(workers, chain([first], chunks)):
            bar.update(num_prompts)
            yield result
        if use is not None:
            use.add(workers.use())


def open_workers(spec: EngineSpec, action: Action[Result]) -> Workers[Result]:
    """The engines that the configuration asks for. Errors: see `map_chunks`."""
    if spec.model.endpoint is None and spec.engine.backend == "ray":
        from rlaif.inference.work.ray_actors import RayActors

        return RayActors(spec, action, OPEN_AT_ONCE)
    return Here(spec, action)


def in_order(workers: Workers[Result], chunks: Iterable[Chunk]) -> Generator[tuple[int, Result], None, None]:
    """(number of prompts, result) of each chunk, in order. A chunk goes to the worker that has the fewest.

    An error ends it, after the results that come before it.
    """
    todo = enumerate(chunks)
    following = next(todo, None)
    sizes: dict[int, int] = {}
    place: dict[int, int] = {}  # open chunks -> worker
    load = [0] * workers.count
    results: dict[int, Result] = {}
    written = 0
    while following is not None or place or results:
        while following is not None and min(load) < OPEN_AT_ONCE:
            number, chunk = following
            if number >= written + OPEN_AT_ONCE * AHEAD * workers.count:
                break
            worker = load.index(min(load))
            workers.submit(worker, number, chunk)
            sizes[number], place[number] = chunk.num_prompts, worker
            load[worker] += 1
            if (following := next(todo, None)) is None:
                workers.no_more()
        error = None
        for done in workers.wait():
            load[place.pop(done.number)] -= 1
            if done.error is not None:
                error = error or done.error
            else:
                results[done.number] = done.result  # type: ignore[assignment]
        while written in results:
            yield sizes.pop(written), results.pop(written)
            written += 1
        if error is not None:
            raise error
