"""Training tables: conversations about pictures, as parquet, and the samples that training reads from them.

A table has the columns

    images     list of pictures {bytes, path}; they stand before the text of the first user turn; empty: text alone
    messages   list of {role, content}

or, with several conversations about the same pictures, which cost little more than one,

    images           as above
    conversations    list of such lists; none of them sees another

or, as captions lie about on disk,

    image      a picture {bytes, path}
    caption    what the assistant says on seeing it, without a question

A picture without bytes is read from its path, relative to the table's folder and inside it.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Image, List
from PIL import Image as Pictures
from torch.utils.data import Dataset as TorchDataset

from model.images import open_image
from model.processing import MiniCPMVProcessor, with_images
from rlaif.storage.files import file_inside
from training.packing import Sample, share_prefix

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
    for columns in (["images", "messages"], ["images", "conversations"], ["image", "caption"]):
        if set(columns) <= set(table.column_names):
            pictures = List(Image(decode=False)) if columns[0] == "images" else Image(decode=False)
            return table.select_columns(columns).cast_column(columns[0], pictures)
    raise ValueError(
        f"{path} has the columns {', '.join(table.column_names)}; a training table has images and messages, images and "
        "conversations, or image and caption"
    )


def open_picture(encoded: dict[str, Any], folder: Path | None) -> Pictures.Image:
    """A picture as its camera held it, RGB.

    Errors: OSError, ValueError for one that cannot be decoded, or whose path leads out of the folder of its table.
    """
    if encoded["bytes"] is not None:
        return open_image(encoded["bytes"])
    if folder is None:
        raise ValueError("the picture has no bytes")
    return open_image(file_inside(encoded["path"], [folder]).read_bytes())


def parts_of(row: Row, folder: Path | None = None) -> tuple[list[Pictures.Image], list[list[dict[str, Any]]]]:
    """The pictures of a row, and its conversations, the messages of each with an image part for each picture."""
    if "caption" in row:
        encoded = [row["image"]]
        conversations = [[{"role": "user", "content": ""}, {"role": "assistant", "content": row["caption"]}]]
    else:
        encoded = row["images"]
        conversations = row["conversations"] if "conversations" in row else [row["messages"]]
    if not conversations:
        raise ValueError("no conversation")
    pictures = [open_picture(picture, folder) for picture in encoded]
    return pictures, [with_images(one, len(encoded)) for one in conversations]


class Conversations(TorchDataset):
    """The rows of a table as samples, encoded when asked for; `lengths` holds the tokens of each.

    Rows that nothing can be learnt from are left out; `problems` says which and why.
    """

    def __init__(
        self,
        table: Dataset,
        processor: MiniCPMVProcessor,
        longest: int | None,
        workers: int = 1,
        folder: Path | None = None,
    ):
        """longest: rows of more tokens are left out; None: none are. folder: of the table, where paths lead."""
        self.processor, self.folder = processor, folder

        def measure(row: Row) -> dict[str, Any]:
            try:
                pictures, conversations = parts_of(row, folder)
                ids, _, _ = self.encode(pictures, conversations)
            except (OSError, ValueError, TypeError, RuntimeError) as error:
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

    def encode(
        self, pictures: list[Pictures.Image], conversations: list[list[dict[str, Any]]]
    ) -> tuple[list[int], list[int], list[int]]:
        """Token ids, labels and branches of a row. Errors: ValueError: nothing can be learnt from it."""
        sizes = [picture.size for picture in pictures]
        return share_prefix([self.processor.encode_training(messages, sizes) for messages in conversations])

    def __getitem__(self, index: int) -> Sample:
        pictures, conversations = parts_of(self.rows[index], self.folder)
        ids, labels, branches = self.encode(pictures, conversations)
        views = [self.processor.image_processor.slice(picture) for picture in pictures]
        sizes = [size for _, size in views]
        return Sample(
            torch.tensor(ids),
            torch.tensor(labels),
            torch.tensor(branches),
            [view for slices, _ in views for view in slices],
            torch.cat(sizes) if sizes else torch.zeros(0, 2, dtype=torch.int32),
        )
