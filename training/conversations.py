"""Training tables: conversations about images, as parquet, and the samples that training reads from them.

A table has the columns

    images     list of {bytes, path}; they precede the text of the first user turn; empty for text only
    messages   list of {role, content}

or, for several conversations about the same images, which cost little more than one,

    images           as above
    conversations    list of such lists of messages, which do not see each other

or, for plain captions,

    image      one {bytes, path}
    caption    the assistant's answer to the image, without a question

An image without bytes is read from its path, which is relative to the table's folder and must stay inside it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset, Image, List
from PIL import Image as Images
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from model.images import open_image
from model.processing import MiniCPMVProcessor, with_images
from rlaif.errors import InputError
from rlaif.progress import progress_bar
from rlaif.storage.files import atomic_write, file_inside
from training.packing import Sample, share_prefix

Row = dict[str, Any]
Messages = list[dict[str, Any]]
COLUMNS = (["images", "messages"], ["images", "conversations"], ["image", "caption"])
ROWS_OF_A_WORKER = 500  # at least: a process takes as long to start as to measure them
MEASURED = pa.schema({"length": pa.int64(), "reason": pa.string(), "detail": pa.string()})
ROWS_AT_ONCE = 50  # that a worker hands over


class Drop(NamedTuple):
    """A row that cannot be trained on. row: its index in the table; reason: a short name that is counted."""

    row: int
    reason: str
    detail: str


class Measured(NamedTuple):
    """The tokens of a row, and why it cannot be trained on: as in Drop, empty if it can."""

    length: int
    reason: str
    detail: str


class UnusableConversation(ValueError):
    """Messages that cannot be trained on, such as a conversation in which the assistant says nothing."""


def read_table(path: str, cache: Path | None = None) -> Dataset:
    """The rows of a training table, images still encoded.

    Args:
        cache: folder for the Arrow copy of the table; None: that of `datasets`.

    Errors: InputError for a file that is not parquet or has other columns.
    """
    try:
        table = Dataset.from_parquet(path, cache_dir=str(cache) if cache else None)
    except (OSError, ValueError, RuntimeError) as error:  # datasets wraps the error of the reader
        cause = " ".join(str(error.__cause__ or error).split())
        raise InputError(f"{path} is not a readable parquet file ({cause}); `data` takes parquet files") from error
    for columns in COLUMNS:
        if set(columns) <= set(table.column_names):
            kind = List(Image(decode=False)) if columns[0] == "images" else Image(decode=False)
            return table.select_columns(columns).cast_column(columns[0], kind)
    raise InputError(
        f"{path} has the columns {', '.join(table.column_names)}; a training table has images and messages, images and "
        "conversations, or image and caption"
    )


def open_encoded(image: dict[str, Any], folder: Path | None) -> Images.Image:
    """An image of a row, RGB.

    Errors: OSError, ValueError if it cannot be decoded, or its path leads out of the folder of its table.
    """
    if image["bytes"] is not None:
        return open_image(image["bytes"])
    if folder is None:
        raise ValueError("the image has no bytes")
    return open_image(file_inside(image["path"], [folder]).read_bytes())


def images_of(row: Row, folder: Path | None) -> list[Images.Image]:
    """The images of a row, decoded. Errors: as `open_encoded`."""
    encoded = [row["image"]] if "image" in row else row["images"]
    return [open_encoded(image, folder) for image in encoded]


def conversations_of(row: Row, images: int) -> list[Messages]:
    """The conversations of a row, each with an image part for every image. Errors: ValueError if there are none."""
    if "caption" in row:
        conversations = [[{"role": "user", "content": ""}, {"role": "assistant", "content": row["caption"]}]]
    else:
        conversations = row["conversations"] if "conversations" in row else [row["messages"]]
    if not conversations:
        raise ValueError("the row has no conversation")
    return [with_images(messages, images) for messages in conversations]


@dataclass(frozen=True)
class Measuring(TorchDataset[Measured]):
    """The rows of a table, measured on access."""

    table: Dataset
    measure: Callable[[Row], Measured]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Measured:
        return self.measure(self.table[index])


def measured_rows(rows: Measuring, file: Path | None, workers: int) -> list[Measured]:
    """What the file has, if there is one; else all rows, measured, which are written to it.

    The workers are those of a DataLoader: they end with this process, also if it is killed.
    """
    if file and file.is_file():
        return [Measured(**row) for row in pq.read_table(file).to_pylist()]
    workers = min(workers, len(rows) // ROWS_OF_A_WORKER)
    loader = DataLoader(
        rows,
        ROWS_AT_ONCE,
        num_workers=workers if workers > 1 else 0,
        collate_fn=list,
        generator=torch.Generator(),  # the default one is that of the training
    )
    measured: list[Measured] = []
    with progress_bar("counting tokens", "row", len(rows)) as bar:
        for batch in loader:
            measured += batch
            bar.update(len(batch))
    if file:
        with atomic_write(file) as temporary:
            pq.write_table(pa.Table.from_pylist([row._asdict() for row in measured], MEASURED), temporary)
    return measured


class Conversations(TorchDataset[Sample]):
    """The rows of a table as samples, encoded on access.

    lengths: tokens of each; drops: the rows that cannot be trained on, which are not among the samples.
    """

    def __init__(
        self,
        table: Dataset,
        processor: MiniCPMVProcessor,
        max_length: int | None,
        folder: Path | None = None,
        cache: Path | None = None,
        workers: int = 1,
    ) -> None:
        """
        Args:
            max_length: rows of more tokens are dropped; None: no limit.
            folder: of the table, in which paths of images are looked up; None: images must have bytes.
            cache: parquet file for the tokens of the rows, read if it is there; None: they are counted each time.
            workers: processes that count the tokens of a large table.
        """
        self.processor, self.max_length, self.folder = processor, max_length, folder
        measured = measured_rows(Measuring(table, self.measure), cache, workers)
        self.drops = [Drop(number, reason, detail) for number, (_, reason, detail) in enumerate(measured) if reason]
        usable = [number for number, (_, reason, _) in enumerate(measured) if not reason]
        self.rows = table.select(usable)
        self.lengths = [measured[number].length for number in usable]

    def __len__(self) -> int:
        return len(self.rows)

    def measure(self, row: Row) -> Measured:
        """The tokens of a row of the table."""
        try:
            length = len(self.encode(row, images_of(row, self.folder))[0])
        except UnusableConversation as error:
            return Measured(0, "unusable_conversation", str(error))
        except (OSError, ValueError, TypeError) as error:
            return Measured(0, "unusable_image", " ".join(str(error).split()))
        if self.max_length is not None and length > self.max_length:
            return Measured(length, "too_long", f"{length} tokens, more than {self.max_length}")
        return Measured(length, "", "")

    def encode(self, row: Row, images: list[Images.Image]) -> tuple[list[int], list[int], list[int]]:
        """Token ids, labels and branches of a row. Errors: UnusableConversation."""
        sizes = [image.size for image in images]
        try:
            conversations = conversations_of(row, len(images))
            return share_prefix([self.processor.encode_training(messages, sizes) for messages in conversations])
        except (ValueError, TypeError) as error:  # TypeError: a null where a text should be
            raise UnusableConversation(" ".join(str(error).split())) from error

    def __getitem__(self, index: int) -> Sample:
        row = self.rows[index]
        images = images_of(row, self.folder)
        ids, labels, branches = self.encode(row, images)
        sliced = [self.processor.image_processor.slice(image) for image in images]
        sizes = [size for _, size in sliced]
        return Sample(
            torch.tensor(ids),
            torch.tensor(labels),
            torch.tensor(branches),
            [pixels for slices, _ in sliced for pixels in slices],
            torch.cat(sizes) if sizes else torch.zeros(0, 2, dtype=torch.int32),
        )
