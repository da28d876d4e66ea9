"""The progress bar of a stage: one over all its rows, with rate and time left."""

from typing import Any

from tqdm import tqdm


def progress_bar(description: str, unit: str, total: int | None, done: int = 0) -> "tqdm[Any]":
    """A bar over `total` rows (None: unknown), of which `done` were on disk when the stage started."""
    return tqdm(desc=description, unit=unit, total=total, initial=done, dynamic_ncols=True)
