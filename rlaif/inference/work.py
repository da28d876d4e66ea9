"""Work on some prompts at a time by an engine: here, or by many engines on a Ray cluster (`engine.backend: ray`).

What is handed out is where rows stand, not the rows: whoever does the work reads them from the run folder, so that no
image passes through the process that hands out and writes. On several machines the run folder must be the same for all.
Results come back in the order of the chunks, whoever did them, so that tables are the same as from one engine.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import Any

from rlaif.inference.chunks import Chunk, EngineSpec
from rlaif.inference.engine import Engine


def map_chunks(
    place: EngineSpec, chunks: Iterable[Chunk], action: Callable[[Engine, Chunk], Any]
) -> Iterator[tuple[Chunk, Any]]:
    """Each chunk with what `action` makes of it, in order. No engine is opened for no chunks."""
    chunks = iter(chunks)
    first = next(chunks, None)
    if first is None:
        return
    chunks = chain([first], chunks)
    if place.engine.backend == "ray":
        from rlaif.inference.cluster import map_chunks_on_ray

        yield from map_chunks_on_ray(place, chunks, action)
        return
    with closing(place.open_engine(place.model, place.engine, place.seed)) as engine:
        for chunk in chunks:
            yield chunk, action(engine, chunk)
