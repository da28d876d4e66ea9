"""Tables of pictures with the texts that are true of them, decoded once and kept in memory.

A table has the columns

    image    one {bytes, path}
    texts    list of strings, all short texts that are true of the picture: "red apple", "apple top left"

An image without bytes is read from its path, which is relative to the table's folder and must stay inside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.utils.data import Dataset, Sampler

from model import MiniCPMVImageProcessor, MiniCPMVProcessor
from model.slicing import slice_image
from rlaif.errors import InputError
from training.conversations import Drop, open_encoded

COLUMNS = ["image", "texts"]
ROWS_AT_ONCE = 1000


class Picture(NamedTuple):
    """pixels: uint8 [3, side, P * side], patches in row-major order; grid: (rows, columns) in patches; texts: rows of
    the vectors of all texts.
    """

    pixels: np.ndarray
    grid: tuple[int, int]
    texts: list[int]


def read_rows(path: str) -> Iterator[dict[str, Any]]:
    """The rows of a table. Errors: InputError for a file that is not parquet, or other columns."""
    try:
        with pq.ParquetFile(path) as file:
            check_columns(path, file.schema_arrow)
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=COLUMNS):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        cause = " ".join(str(error).split())
        raise InputError(f"{path} is not a readable parquet file ({cause}); `data` takes parquet files") from error


def check_columns(path: str, schema: pa.Schema) -> None:
    """Errors: InputError unless there are the columns image ({bytes, path}) and texts (list of strings)."""
    expected = "a table of the encoder has image ({bytes, path}) and texts (list of strings)"
    if missing := [name for name in COLUMNS if name not in schema.names]:
        raise InputError(
            f"{path} has the columns {', '.join(schema.names)}, but not {' and '.join(missing)}; {expected}"
        )
    image, texts = (schema.field(name).type for name in COLUMNS)
    encoded = pa.types.is_struct(image) and {"bytes", "path"} <= {part.name for part in image.fields}
    listed = pa.types.is_list(texts) or pa.types.is_large_list(texts)
    strings = (pa.string(), pa.large_string(), pa.null())  # null: every list is empty
    if not encoded or not listed or texts.value_type not in strings:
        raise InputError(f"{path} has image of type {image} and texts of type {texts}; {expected}")


def strip_of(image: Image.Image, processor: MiniCPMVImageProcessor) -> tuple[np.ndarray, tuple[int, int]]:
    """A picture (RGB) at the resolution of the model, uncut: uint8 [3, side, P * side] and its grid."""
    side = processor.patch_size
    (view,), _ = slice_image(image, processor.scale_resolution, side, 1)
    pixels = np.asarray(view)  # [H, W, 3]
    rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
    tiles = pixels.reshape(rows, side, columns, side, 3).transpose(4, 1, 0, 2, 3)  # [3, side, rows, columns, side]
    return tiles.reshape(3, side, rows * columns * side), (rows, columns)


@dataclass
class Texts:
    """All different texts of the tables, tokenized once; `ids`: the tokens of each."""

    processor: MiniCPMVProcessor
    ids: list[list[int]] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)

    def rows_of(self, texts: Sequence[str | None] | None) -> list[int]:
        """The rows of the texts of a picture, each once. Errors: ValueError for no text, or one without tokens."""
        if not texts:
            raise ValueError("the picture has no texts")
        return list(dict.fromkeys(self._row(text) for text in texts))

    def _row(self, text: str | None) -> int:
        if text is None or not text.strip():
            raise ValueError(f"a text is {text!r}")
        if text not in self.rows:
            ids = self.processor.encode_text(f" {text}")  # as in the middle of a sentence
            if not ids:
                raise ValueError(f"the text {text!r} has no tokens")
            self.rows[text] = len(self.ids)
            self.ids.append(ids)
        return self.rows[text]


class Pictures(Dataset[Picture]):
    """The usable pictures of all tables. drops: of each table, the rows that cannot be trained on."""

    def __init__(self, paths: Sequence[str], processor: MiniCPMVProcessor) -> None:
        """Errors: InputError if a table cannot be read or no row is usable."""
        self.texts = Texts(processor)
        self.pictures: list[Picture] = []
        self.drops: dict[str, list[Drop]] = {path: [] for path in paths}
        for path in paths:
            for number, row in enumerate(read_rows(path)):
                try:
                    rows = self.texts.rows_of(row["texts"])
                except ValueError as error:
                    self.drops[path].append(Drop(number, "unusable_texts", str(error)))
                    continue
                try:
                    image = open_encoded(row["image"], Path(path).parent)
                    self.pictures.append(Picture(*strip_of(image, processor.image_processor), rows))
                except (OSError, ValueError, TypeError) as error:  # TypeError: a null where an image should be
                    detail = " ".join(str(error).split())
                    self.drops[path].append(Drop(number, "unusable_image", detail))
        if not self.pictures:
            drops = [drop for path in paths for drop in self.drops[path]]
            why = f"the first: {drops[0].detail}" if drops else "the tables are empty"
            raise InputError(f"no row of {', '.join(paths)} can be trained on; {why}; write rows with image and texts")

    @property
    def num_texts(self) -> int:
        """Different texts of the usable pictures; `texts` also has those of dropped ones."""
        return len({row for picture in self.pictures for row in picture.texts})

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Picture:
        return self.pictures[index]


class SimilarSizes(Sampler[int]):
    """A new order of pictures in each epoch: random batches whose pictures have about the same number of patches, so
    that hardly any is padded.
    """

    def __init__(self, pictures: Pictures, batch_size: int, seed: int) -> None:
        self.patches = torch.tensor([rows * columns for _, (rows, columns), _ in pictures.pictures])
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Trainer calls it before each epoch, also the one that it resumes in."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.patches)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(hash((self.seed, self.epoch)) % 2**63)
        order = torch.randperm(len(self), generator=generator)
        order = order[self.patches[order].argsort(stable=True)]
        *whole, last = order.split(self.batch_size)
        if len(last) == self.batch_size:
            whole, last = [*whole, last], last[:0]
        batches = [whole[index] for index in torch.randperm(len(whole), generator=generator).tolist()]
        yield from torch.cat([*batches, last]).tolist()  # a smaller batch must be the last one


@dataclass(frozen=True)
class Collator:
    """Pictures -> a batch of `TextScorer`. mean, std: of a channel, from 0 to 1."""

    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        rows = sorted({row for picture in pictures for row in picture.texts})
        column = {row: index for index, row in enumerate(rows)}
        labels = torch.zeros(len(pictures), len(rows), dtype=torch.bool)
        for index, picture in enumerate(pictures):
            labels[index, [column[row] for row in picture.texts]] = True
        return {
            "pixel_values": normalized(padded([picture.pixels for picture in pictures]), self.mean, self.std),
            "tgt_sizes": torch.tensor([picture.grid for picture in pictures], dtype=torch.int32),
            "text_rows": torch.tensor(rows),
            "labels": labels,
        }


def padded(strips: Sequence[np.ndarray]) -> torch.Tensor:
    """Pictures uint8 [3, side, P_i * side] -> [B, 3, side, P * side]; what pads is masked later."""
    longest = max(strip.shape[2] for strip in strips)
    rows = [np.pad(strip, ((0, 0), (0, 0), (0, longest - strip.shape[2]))) for strip in strips]
    return torch.from_numpy(np.stack(rows))


def normalized(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Values from 0 to 255 [B, 3, H, W], uint8 -> float32, as the image processor normalizes them."""
    center, spread = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return (pixels.float() / 255 - center) / spread
