"""Training tables: conversations about pictures, as parquet, and the samples that training reads from them.

A table has the columns

    images     list of pictures {bytes, path}; they stand before the text of the first user turn; empty: text alone
    messages   list of {role, content}

or, as captions lie about on disk,

    image      a picture {bytes, path}
    caption    what the assistant says on seeing it, without a question
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Image, List
from PIL import Image as Pictures
from PIL import ImageOps
from torch.utils.data import Dataset as TorchDataset

from model.packing import Sample
from model.processing import MiniCPMVProcessor, with_images

Row = dict[str, Any]


def table_digest(path: str) -> str:
    """SHA-256 of a table's file. Errors: ValueError: there is none."""
    if not Path(path).is_file():
        raise ValueError(f"there is no training table {path}; `data` names parquet files")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_table(path: str, cache: Path | None = None) -> Dataset:
    """The rows of a training table on disk, pictures still encoded.

    Errors: ValueError for a file that is no parquet or has other columns.
    """
    try:
        table = Dataset.from_parquet(path, cache_dir=str(cache) if cache else None)
    except (OSError, ValueError, RuntimeError) as error:  # datasets wraps what the reader says
        cause = error.__cause__ or error
        raise ValueError(f"{path} is no parquet file that can be read: {' '.join(str(cause).split())}") from error
    names = set(table.column_names)
    if {"images", "messages"} <= names:
        return table.select_columns(["images", "messages"]).cast_column("images", List(Image(decode=False)))
    if {"image", "caption"} <= names:
        return table.select_columns(["image", "caption"]).cast_column("image", Image(decode=False))
    raise ValueError(
        f"{path} has the columns {', '.join(table.column_names)}; a training table has images and messages, or image "
        "and caption"
    )


def open_picture(encoded: dict[str, Any]) -> Pictures.Image:
    """A picture as its camera held it, RGB. Errors: OSError, ValueError for one that cannot be decoded."""
    source = encoded["path"] if encoded["bytes"] is None else io.BytesIO(encoded["bytes"])
    with Pictures.open(source) as file:
        return ImageOps.exif_transpose(file).convert("RGB")


def conversation(row: Row) -> tuple[list[Pictures.Image], list[dict[str, Any]]]:
    """The pictures of a row, and its messages with an image part for each."""
    if "caption" in row:
        encoded = [row["image"]]
        messages = [{"role": "user", "content": ""}, {"role": "assistant", "content": row["caption"]}]
    else:
        encoded, messages = row["images"], row["messages"]
    return [open_picture(picture) for picture in encoded], with_images(messages, len(encoded))


class Conversations(TorchDataset):
    """The rows of a table as samples, encoded when asked for; `lengths` holds the tokens of each.

    Rows that nothing can be learnt from are left out; `problems` says which and why.
    """

    def __init__(self, table: Dataset, processor: MiniCPMVProcessor, longest: int | None, workers: int = 1):
        """longest: rows of more tokens are left out; None: none are."""
        self.processor = processor

        def measure(row: Row) -> dict[str, Any]:
            try:
                pictures, messages = conversation(row)
                ids, _ = processor.encode_training(messages, [picture.size for picture in pictures])
            except (OSError, ValueError, TypeError) as error:
                return {"length": 0, "problem": " ".join(str(error).split())}
            too_long = longest is not None and len(ids) > longest
            return {"length": len(ids), "problem": f"{len(ids)} tokens, more than {longest}" if too_long else ""}

        measured = table.map(
            measure,
            remove_columns=table.column_names,
            num_proc=workers if workers > 1 else None,
            keep_in_memory=True,
            load_from_cache_file=False,
            desc="counting tokens",
        )
        problems = list(measured["problem"])
        self.problems = [(row, problem) for row, problem in enumerate(problems) if problem]
        usable = [row for row, problem in enumerate(problems) if not problem]
        self.rows = table.select(usable)
        self.lengths = [measured["length"][row] for row in usable]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        pictures, messages = conversation(self.rows[index])
        ids, labels = self.processor.encode_training(messages, [picture.size for picture in pictures])
        views = [self.processor.image_processor.slice(picture) for picture in pictures]
        sizes = [size for _, size in views]
        return Sample(
            torch.tensor(ids),
            torch.tensor(labels),
            [view for slices, _ in views for view in slices],
            torch.cat(sizes) if sizes else torch.zeros(0, 2, dtype=torch.int32),
        )
