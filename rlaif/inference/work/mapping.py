"""The chunks of a stage through one engine or several, without waiting between them.

Several chunks are open at each engine, so that requests of the next ones run while the last answers of a chunk are
written; results come in the order of the chunks, so the tables are the same from any number of engines. The engines are
here, in processes of this machine (`rlaif.inference.work.processes`), or in actors on a Ray cluster
(`rlaif.inference.work.ray_actors`). A chunk that was finished but not yet written when the stage is killed is computed
again.
"""

from collections.abc import Generator, Iterable
from contextlib import closing
from itertools import chain

from rlaif.inference.work.chunks import Chunk, EngineSpec
from rlaif.inference.work.processes import Processes, shares_of
from rlaif.inference.work.workers import Action, Here, Result, Use, Workers
from rlaif.progress import progress_bar

OPEN_AT_ONCE = 4  # chunks at each engine
AHEAD = 4  # as many chunks as are open, times this, may be finished before the oldest one is: bounds memory


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
    if spec.model.endpoint is not None:
        return Here(spec, action)
    if spec.engine.backend == "ray":
        from rlaif.inference.work.ray_actors import RayActors

        return RayActors(spec, action, OPEN_AT_ONCE)
    shares = shares_of(spec.engine)
    if len(shares) == 1:
        return Here(spec, action)
    print(f"  {len(shares)} engines, each in a process of its own", flush=True)
    return Processes(spec, action, shares)


def in_order(
    workers: Workers[Result], chunks: Iterable[Chunk], open_at_once: int = OPEN_AT_ONCE
) -> Generator[tuple[int, Result], None, None]:
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
        while following is not None and min(load) < open_at_once:
            number, chunk = following
            if number >= written + open_at_once * AHEAD * workers.count:
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
