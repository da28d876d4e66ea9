"""Work on a Ray cluster, by Ray Data: chunks stream through actors, each of which holds one engine.

Ray starts an actor that dies anew, and gives its chunk to it or to another; a chunk that was done and not yet written
when the stage itself is killed is done again, as with one engine.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from rlaif.errors import ModelError, RlaifError
from rlaif.inference.chunks import Chunk, EngineSpec
from rlaif.inference.engine import Engine

CHUNKS_AT_ONCE = 1000  # bounds memory; each batch of chunks starts its engines anew


class Worker:
    """One actor: an engine, and what it does with a chunk."""

    def __init__(self, place: EngineSpec, action: Callable[[Engine, Chunk], Any]) -> None:
        self._engine = place.open_engine(place.model, place.engine, place.seed)
        self._action = action

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of one chunk; chunks and results are objects to Ray Data."""
        (chunk,) = batch["chunk"]
        result = np.empty(1, dtype=object)
        result[0] = self._action(self._engine, chunk)
        return {"result": result}


def map_chunks_on_ray(
    place: EngineSpec, chunks: Iterable[Chunk], action: Callable[[Engine, Chunk], Any]
) -> Iterator[tuple[Chunk, Any]]:
    """See rlaif.inference.work. Errors: ModelError: no cluster, or what an actor could not do."""
    import ray

    settings = place.engine
    try:
        ray.init(settings.ray_address, ignore_reinit_error=True, include_dashboard=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise ModelError(
            f"no Ray cluster at {settings.ray_address} ({error}); start one, or leave engine.ray_address out"
        ) from error
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    gpus = settings.tensor_parallel_size if ray.cluster_resources().get("GPU") else 0
    actors = settings.actors or max(1, int(ray.cluster_resources().get("GPU", 1)) // settings.tensor_parallel_size)
    chunks = iter(chunks)
    try:
        while batch := list(islice(chunks, CHUNKS_AT_ONCE)):
            rows = ray.data.from_items([{"chunk": chunk} for chunk in batch], override_num_blocks=len(batch))
            done = rows.map_batches(
                Worker, fn_constructor_args=(place, action), batch_size=1, concurrency=actors, num_gpus=gpus or None
            )
            for chunk, row in zip(batch, done.iter_rows(), strict=True):
                yield chunk, row["result"]
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, RlaifError):
            cause = cause.__cause__ or getattr(cause, "cause", None)
        raise (cause or ModelError(f"a worker failed: {str(error).splitlines()[-1]}")) from error
