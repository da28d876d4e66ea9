"""What the host computes for a static graph: patches, positions and mask of one slice, padded to the graph's length.

An NPU has no integers worth using, so that position ids and grids are resolved here. numpy only: a phone's program does
the same with the few tensors of `vision-host.safetensors`.
"""

import json
from dataclasses import asdict, dataclass
from math import ceil, sqrt
from pathlib import Path

import numpy as np

from edge.vision.shape import POSITION_TABLE, VisionShape
from rlaif.errors import InputError
from rlaif.storage.files import atomic_write

# Added to the scores of padding, which repeats the first patch: its weight is that of a real patch times exp(-40), lost
# in float32 whatever the scores are. A score of -1e9 would leave 16-bit activations no resolution for the others; and
# padding of zeros has scores of its own, which may exceed all others.
MASKED = -40.0
LONGEST_SIDE_RATIO = 8  # of width to height of an image, or the reverse
MULTIPLE = 16


def static_length(shape: VisionShape) -> int:
    """Patches of the longest slice of images with sides up to LONGEST_SIDE_RATIO to 1, rounded up to MULTIPLE.

    A slice of side ratio r has at most n / sqrt(r) rows and n * sqrt(r) columns of patches, n = resolution / patch,
    each of which is rounded by at most a half (`model.slicing.fitted_size`).
    """
    n, root = shape.resolution / shape.patch, sqrt(LONGEST_SIDE_RATIO)
    return ceil((n / root + 0.5) * (n * root + 0.5) / MULTIPLE) * MULTIPLE


def position_ids(kind: str, size: tuple[int, int], table_side: int) -> np.ndarray:
    """Rows of the position table [P] of a slice of (rows, columns) patches, as `model.vision` computes them."""
    rows, columns = size
    index = np.arange(rows * columns)
    if kind == "bucket_1d":
        ids: np.ndarray = index * table_side // (rows * columns)
        return ids
    return (index // columns * table_side // rows) * table_side + index % columns * table_side // columns


def key_positions(size: tuple[int, int], width: int) -> np.ndarray:
    """Sine and cosine positions [P, D] of the resampler's keys, as `model.resampler.sincos_positions`."""
    index = np.arange(size[0] * size[1])
    quarter = width // 4
    frequencies = np.float32(10000.0) ** (-np.arange(quarter, dtype=np.float32) / quarter)
    places = (index % size[1], index // size[1])
    column, row = (place[:, None].astype(np.float32) * frequencies for place in places)
    return np.concatenate([np.sin(column), np.cos(column), np.sin(row), np.cos(row)], axis=-1)


@dataclass(frozen=True)
class Host:
    """Computes the inputs of a static graph of `length` patches."""

    shape: VisionShape
    length: int
    table: np.ndarray  # [table_side * table_side, D_vision]

    @property
    def features_shape(self) -> tuple[int, int]:
        """Queries and width of the features of a slice."""
        return self.shape.queries, self.shape.out_width

    def inputs(self, strip: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """A slice [3, side, P * side] of size (rows, columns) in patches -> the inputs of `graph.static_graph`.

        Errors: InputError: it has more patches than the graph.
        """
        side, patches = self.shape.patch, size[0] * size[1]
        if patches > self.length:
            raise InputError(
                f"a slice of {size[0]} x {size[1]} patches does not fit the static graph, which has {self.length}: "
                f"images with sides up to {LONGEST_SIDE_RATIO} to 1 do; crop the image, or use DEVICE=cpu"
            )
        tiles = strip.reshape(3, side, patches, side).transpose(2, 0, 1, 3).reshape(patches, -1)
        ids = position_ids(self.shape.positions, size, self.shape.table_side)
        mask = np.where(np.arange(self.length) < patches, np.float32(0), np.float32(MASKED))
        return {
            "patches": self._padded(tiles),
            "positions": self._padded(self.table[ids]),
            "key_positions": self._padded(key_positions(size, self.shape.out_width)),
            "mask": mask[None, None, None],
        }

    def _padded(self, rows: np.ndarray) -> np.ndarray:
        """[P, X] -> [1, length, X], float32; the first row is repeated."""
        padding = np.repeat(rows[:1], self.length - len(rows), axis=0)
        padded: np.ndarray = np.concatenate([rows, padding])[None].astype(np.float32)
        return padded

    def save(self, file: Path, origin: dict[str, str]) -> None:
        from safetensors.numpy import save

        settings = {"shape": json.dumps(asdict(self.shape)), "length": str(self.length)}
        with atomic_write(file) as temporary:
            temporary.write_bytes(save({POSITION_TABLE: self.table}, metadata=origin | settings))


def read_host(file: Path) -> Host:
    """Errors: InputError: the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            settings = opened.metadata()
            shape, length = VisionShape(**json.loads(settings["shape"])), int(settings["length"])
            return Host(shape, length, opened.get_tensor(POSITION_TABLE))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file} is damaged ({error}); delete it and run `make edge-vision RUN={file.parent.parent}`"
        ) from error
