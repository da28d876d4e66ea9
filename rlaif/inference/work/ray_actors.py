"""Engines in actors on a Ray cluster, for more than one machine (`engine.backend: ray`).

Ray restarts an actor that dies, and runs its open chunks again.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlaif.errors import ModelError, RlaifError
from rlaif.inference.work.chunks import Chunk, EngineSpec
from rlaif.inference.work.workers import Action, Done, Result, Use, Worker, Workers

if TYPE_CHECKING:
    pass


class Actor:
    """The actor's class. It opens its engine for the first chunk, so that an error is that of the chunk."""

    def __init__(self, spec: EngineSpec, action: Action[Any]) -> None:
        self._spec, self._action = spec, action
        self._worker: Worker[Any] | None = None
        self._more = True

    async def run(self, chunk: Chunk) -> tuple[Any, Use]:
        """The result for a chunk, and what the engine did so far."""
        if self._worker is None:
            self._worker = Worker(self._spec, self._action)
            self._worker.expect_more(self._more)
        return await self._worker.run(chunk), self._worker.use()

    async def expect_more(self, more: bool) -> None:
        """See Worker."""
        self._more = more
        if self._worker is not None:
            self._worker.expect_more(more)

    async def close(self) -> None:
        """Close the engine."""
        if self._worker is not None:
            self._worker.engine.close()


class RayActors(Workers[Result]):
    """See Workers. `count` actors, each with `open_at_once` chunks."""

    def __init__(self, spec: EngineSpec, action: Action[Result], open_at_once: int) -> None:
        import ray

        settings = spec.engine
        try:
            ray.init(
                settings.ray_address, ignore_reinit_error=True, include_dashboard=False, logging_level=logging.ERROR
            )
        except ConnectionError as error:
            raise ModelError(
                f"no Ray cluster at {settings.ray_address} ({error}); start one, or remove engine.ray_address to run "
                "on this machine"
            ) from error
        gpus = int(ray.cluster_resources().get("GPU", 0))
        self.count = settings.engines or max(1, gpus // settings.tensor_parallel_size)
        kind = ray.remote(Actor).options(
            num_gpus=settings.tensor_parallel_size if gpus else 0,
            max_concurrency=open_at_once + 2,  # beside the chunks, the other methods
            max_restarts=-1,
            max_task_retries=-1,
        )
        self._actors: list[Any] = [kind.remote(spec, action) for _ in range(self.count)]
        self._open: dict[ray.ObjectRef[Any], tuple[int, int]] = {}  # number of the chunk, actor
        self._uses = [Use()] * self.count

    def submit(self, worker: int, number: int, chunk: Chunk) -> None:
        """See Workers."""
        self._open[self._actors[worker].run.remote(chunk)] = number, worker

    def no_more(self) -> None:
        """See Workers."""
        for actor in self._actors:
            actor.expect_more.remote(False)

    def wait(self) -> Sequence[Done[Result]]:
        """See Workers."""
        import ray

        (reference, *_), _ = ray.wait([*self._open], num_returns=1)
        number, worker = self._open.pop(reference)
        try:
            result, self._uses[worker] = ray.get(reference)
        except ray.exceptions.RayError as error:
            return [Done(number, error=_cause(error))]
        return [Done(number, result)]

    def use(self) -> Use:
        """See Workers."""
        return Use.of_all(self._uses)

    def close(self) -> None:
        """See Workers."""
        import ray

        try:
            if not self._open:
                ray.get([actor.close.remote() for actor in self._actors])
        finally:
            for actor in self._actors:
                ray.kill(actor)


def _cause(error: BaseException) -> RlaifError:
    """The error that the user can fix behind one of Ray's."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, RlaifError):
        cause = cause.__cause__ or getattr(cause, "cause", None)
    return cause or ModelError(f"a Ray actor failed: {str(error).splitlines()[-1]}")
