"""Chunks of prompts through an engine: here, or through several on a Ray cluster (`engine.backend: ray`).

A chunk holds row locations, not rows: the worker reads the rows from the run folder, so that no image passes
through the process that distributes chunks and writes tables. On several machines all must see the same run folder.
Results come back in the order of the chunks, so the tables are the same as those of one engine.

Ray restarts an actor that dies and runs its chunk again; a chunk that was finished but not yet written when the stage
itself is killed is computed again, as with one engine.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, TypeVar

from rlaif.config import EngineSection, ModelSection
from rlaif.errors import ModelError, RlaifError
from rlaif.inference.engine import Engine, OpenEngine
from rlaif.progress import progress_bar
from rlaif.storage.rows import RowLocations
from rlaif.storage.tables import Row

CHUNKS_AT_ONCE = 1000  # on Ray; bounds memory, and each batch of chunks starts its engines anew

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


Action = Callable[[Engine, Chunk], Result]


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
) -> Generator[Result, None, None]:
    """The result of `action` for each chunk, in order, under one progress bar over all prompts.

    Without chunks no engine is opened.

    Args:
        remaining, done: numbers of prompts in `chunks`, and on disk when the stage started.
    Errors:
        ModelError: there is no cluster, or a model failed.
    """
    chunks = iter(chunks)
    first = next(chunks, None)
    if first is None:
        return
    chunks = chain([first], chunks)
    if spec.engine.backend == "ray":
        results = _map_on_ray(spec, chunks, action)
    else:
        results = _map_here(spec.open(), chunks, action)
    with closing(results), progress_bar(description, "prompt", done + remaining, done) as bar:
        for num_prompts, result in results:
            bar.update(num_prompts)
            yield result


def _map_here(
    engine: Engine, chunks: Iterable[Chunk], action: Action[Result]
) -> Generator[tuple[int, Result], None, None]:
    with closing(engine):
        for chunk in chunks:
            yield chunk.num_prompts, action(engine, chunk)


class Worker:
    """A Ray actor: one engine, and the action that it applies to each chunk."""

    def __init__(self, spec: EngineSpec, action: Action[Any]) -> None:
        self._engine = spec.open()
        self._action = action

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Apply the action to the one chunk of the batch; Ray Data passes both as numpy arrays of objects."""
        import numpy as np

        (chunk,) = batch["chunk"]
        result = np.empty(1, dtype=object)
        result[0] = self._action(self._engine, chunk)
        return {"result": result}


def _map_on_ray(
    spec: EngineSpec, chunks: Iterable[Chunk], action: Action[Result]
) -> Generator[tuple[int, Result], None, None]:
    import ray

    settings = spec.engine
    try:
        ray.init(settings.ray_address, ignore_reinit_error=True, include_dashboard=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise ModelError(
            f"no Ray cluster at {settings.ray_address} ({error}); start one, or remove engine.ray_address to run on "
            "this machine"
        ) from error
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False  # map_chunks draws the stage's
    gpus = settings.tensor_parallel_size if ray.cluster_resources().get("GPU") else 0
    actors = settings.actors or max(1, int(ray.cluster_resources().get("GPU", 1)) // settings.tensor_parallel_size)
    chunks = iter(chunks)
    try:
        while batch := list(islice(chunks, CHUNKS_AT_ONCE)):
            items = ray.data.from_items([{"chunk": chunk} for chunk in batch], override_num_blocks=len(batch))
            rows = items.map_batches(
                Worker, fn_constructor_args=(spec, action), batch_size=1, concurrency=actors, num_gpus=gpus or None
            )
            for chunk, row in zip(batch, rows.iter_rows(), strict=True):
                yield chunk.num_prompts, row["result"]
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, RlaifError):
            cause = cause.__cause__ or getattr(cause, "cause", None)
        raise (cause or ModelError(f"a Ray worker failed: {str(error).splitlines()[-1]}")) from error
