"""Chunks of prompts, and what a worker needs to open its engine.

A chunk holds row locations, not rows: whoever has the engine reads the rows from the run folder, so that no image
passes through the process that distributes chunks and writes tables. On several machines all must see the same run
folder.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rlaif.config import EngineSection, ModelSection
from rlaif.inference.engine import Engine, OpenEngine
from rlaif.storage.rows import RowLocations
from rlaif.storage.tables import Row


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
