"""Work handed out some prompts at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rlaif.config import EngineSection, ModelSection
from rlaif.inference.engine import OpenEngine
from rlaif.storage.rows import RowLocations
from rlaif.storage.tables import Row


@dataclass(frozen=True)
class Chunk:
    """Some prompts, and where their rows stand in each table."""

    title: str
    tables: dict[str, RowLocations]


@dataclass(frozen=True)
class EngineSpec:
    """The model that works, and how it is served."""

    model: ModelSection
    engine: EngineSection
    seed: int
    open_engine: OpenEngine


def batch_by_image(rows: Iterable[Row], count: int) -> Iterator[list[Row]]:
    """`count` rows at a time, or more where the last one's image has more: all questions of an image meet one cache."""
    some: list[Row] = []
    for row in rows:
        if len(some) >= count and row["image_sha256"] != some[-1]["image_sha256"]:
            yield some
            some = []
        some.append(row)
    if some:
        yield some
