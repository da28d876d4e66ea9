"""Data sets of the Hugging Face hub, folders of them, and those written by `save_to_disk`.

A stream downloads as it is read: the first rows of a large data set cost their own shard and no more.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rlaif.errors import InputError
from rlaif.records.record import Record, RecordTable, Value

ROWS_PER_BATCH = 32  # in memory; photographs are large
SLICE = re.compile(r"(\w[\w.-]*)(?:\[(-?\d+)?:(-?\d+)?\])?")

Result = TypeVar("Result")


def is_saved_data_set(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))


def can_stream(split: str) -> bool:
    """Whether a split, such as `train` or `train[:1000]`, can be read without knowing how long it is."""
    match = SLICE.fullmatch(split)
    return match is not None and "-" not in f"{match[2]}{match[3]}"


def should_stream(path: str, split: str, streaming: bool | None, limit: int | None) -> bool:
    """Whether to stream: as `streaming` says; None: if few rows are wanted, unless only what is cached can be read."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if streaming is not None:
        return streaming
    few = limit is not None or "[" in split
    return few and can_stream(split) and (Path(path).exists() or not HF_HUB_OFFLINE)


def open_data_set(
    path: str,
    *,
    split: str = "train",
    config_name: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    section: str = "data",
) -> RecordTable:
    """A split of a data set, or a slice of it as `datasets` writes them: `train[:1000]`, `train[:10%]+test`.

    streaming: read it without downloading all; saved folders are memory-mapped in any case. section: its keys are
    `path`, `split`, `config_name`, for messages. Errors: InputError for a data set that cannot be loaded, an unknown
    split or configuration, and a slice that cannot be streamed.
    """
    from datasets import Dataset, DatasetDict, IterableDatasetDict, config, load_dataset, load_from_disk
    from huggingface_hub.constants import HF_HUB_CACHE

    title = f"data set {path}"
    advice = f"correct {section}.path, or set {section}.config_name"
    folders = [Path(path)]
    if Path(path).is_file():
        raise InputError(f"{path} is a file, expected a data set; set {section}.source to table")
    if is_saved_data_set(Path(path)):
        loaded = _or_input_error(partial(load_from_disk, path), f"cannot load {title}", f"correct {section}.path")
    else:
        if streaming and not can_stream(split):
            raise InputError(
                f"{section}.split is {split!r}, which cannot be streamed; expected a name or a slice such as "
                f"train[:1000]; set {section}.streaming to false"
            )
        load = partial(load_dataset, path, config_name, revision=revision, streaming=streaming)
        loaded = _or_input_error(load, f"cannot load {title}", advice)
        folders += [Path(config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]  # where downloads are stored
    match = SLICE.fullmatch(split)
    name, first, last = (match[1], match[2], match[3]) if match else (None, None, None)
    start, stop = int(first or 0), None if last is None else int(last)
    if isinstance(loaded, DatasetDict | IterableDatasetDict):
        if name is not None and name not in loaded:
            known = ", ".join(map(str, loaded))
            raise InputError(f"{title} has no split {name!r}; it has: {known}; set {section}.split")
        lengths = {} if name else {key: len(part) for key, part in loaded.items()}
    else:
        lengths = {"train": len(loaded)}
        loaded = {name or "train": loaded}
    if name is None:
        read = partial(_select, loaded, split, lengths)
        rows = _or_input_error(read, f"cannot read {section}.split {split!r}", "expected such as train[:1000]")
        name, start, stop = split, 0, None
    else:
        rows = loaded[name]
        if isinstance(rows, Dataset):
            start, stop, _ = slice(start, stop).indices(len(rows))
        elif rows.features is not None:
            rows = rows.decode(False)  # streams decode images in threads, far ahead of the rows that are read
    schema = rows.features.arrow_schema if rows.features is not None else _first_schema(rows, title)
    stored = _StoredImages(f"hf://datasets/{path}@", [folder.resolve() for folder in folders])
    read_rows = partial(_records, rows, title, name, start, stop, stored)
    return RecordTable(title, schema.names, folders, read_rows, schema)


def _select(loaded: Any, split: str, lengths: dict[str, int]) -> Any:
    """The rows of a split with shares or sums, as `datasets` reads it."""
    from datasets import ReadInstruction, concatenate_datasets

    parts = ReadInstruction.from_spec(split).to_absolute(lengths)
    return concatenate_datasets([loaded[part.splitname].select(range(part.from_, part.to)) for part in parts])


def _first_schema(rows: Any, title: str) -> Any:
    """The schema of a stream that does not know it before its first row."""
    batch = _or_input_error(lambda: next(rows.with_format("arrow").iter(1), None), f"cannot read {title}", "try again")
    if batch is None:
        raise InputError(f"{title} has no rows; expected at least one; correct its path or split")
    return batch.schema


def _records(
    rows: Any,
    title: str,
    name: str,
    start: int,
    stop: int | None,
    stored: "_StoredImages",
    columns: Sequence[str] | None,
) -> Iterator[Record]:
    """The rows from `start` to `stop`, read in batches; a stream is not read on behind the last one."""
    from rlaif.records.arrow_rows import arrow_rows

    if stop is not None and stop <= start:
        return
    rows_per_batch, index = 1, 0  # a stream would open the next file to fill a larger batch
    if hasattr(rows, "select"):  # not a stream
        rows, index = rows.select(range(start, len(rows) if stop is None else stop)), start
        rows_per_batch = ROWS_PER_BATCH
    chosen = rows if columns is None else rows.select_columns(list(columns))
    batches = iter(chosen.with_format("arrow").iter(rows_per_batch))
    while (batch := _or_input_error(lambda: next(batches, None), f"cannot read {title}", "try again")) is not None:
        skipped = min(max(start - index, 0), len(batch))
        index += skipped
        for values in arrow_rows(batch.slice(skipped)):
            cells = {column: stored.read(value) for column, value in values.items()}
            yield Record(f"{name}:{index}", f"{title}, {name}, row {index}", cells)
            index += 1
            if index == stop:
                return


@dataclass(frozen=True)
class _StoredImages:
    """Reads images that a data set stores as files, in its repository or in an archive.

    origin: how the URLs of its repository start. folders: archives in these are read.
    """

    origin: str
    folders: list[Path]

    def read(self, cell: Value) -> Value:
        """A cell in which such images are bytes; anything else stays as it is."""
        if isinstance(cell, list):
            return [self.read(item) for item in cell]
        path = cell.get("path") if isinstance(cell, dict) and cell.get("bytes") is None else None
        if not isinstance(path, str) or not self._is_stored(path):
            return cell
        import fsspec

        try:
            with fsspec.open(path, "rb") as file:
                return {**cell, "bytes": file.read()}
        except (OSError, KeyError, ValueError):  # a row without an image
            return cell

    def _is_stored(self, path: str) -> bool:
        *archives, file = path.split("::")
        if not all(part.startswith("zip://") for part in archives):
            return False
        if "://" in file:
            return file.startswith(self.origin)
        return bool(archives) and any(Path(file).resolve().is_relative_to(folder) for folder in self.folders)


def _or_input_error(action: Callable[[], Result], problem: str, advice: str) -> Result:
    """The result of a call to `datasets`, whose errors become an InputError of one line."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    try:
        return action()
    except (OSError, ValueError, AssertionError, DatasetsError, pa.ArrowException) as error:
        cause = error.__cause__ if isinstance(error, DatasetsError) and error.__cause__ else error
        raise InputError(f"{problem}: {' '.join(str(cause).split())}; {advice}") from error
