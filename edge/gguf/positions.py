"""The position table of the vision encoder as llama.cpp reads it: 70 x 70, by the row and column of a patch alone.

llama.cpp gives the patch in row i of h and column j of w the entry (70 i // h, 70 j // w). With `bucket_2d`, the
released 2.6, a table whose side divides 70 is read so exactly. Other kinds need more than these two numbers:
`bucket_1d`, the released 2.5, counts patches (k = i w + j of h w). But slices of all shapes have about the same area,
and the entries that one shape reads are mostly its own. So the table is written shape by shape, the rarest first and
the square last: where two shapes read the same entry, the later one gets what the model gives it, the other something
near.
"""

from collections import Counter
from dataclasses import dataclass

import torch

from model.configuration import MiniCPMVVisionConfig
from model.slicing import Grid, fitted_size
from model.vision import positions

SIDE = 70  # of llama.cpp's table
LONGEST = 4.0  # ratio of the sides of a slice, up to which shapes are counted
STEPS = 2000


@dataclass(frozen=True)
class FittedTable:
    """values: [4900, D].

    exact: share of patches that get what the model gives them, of slices whose ratio of sides is log-uniform up to
    LONGEST.
    """

    values: torch.Tensor
    exact: float


def fit_table(table: torch.Tensor, vision: MiniCPMVVisionConfig, resolution: int) -> FittedTable:
    """table [side * side, D] of the model. resolution: side in pixels of a square slice."""
    side, kind = vision.image_size // vision.patch_size, vision.position_embedding_type

    def model_gives(rows: int, columns: int) -> torch.Tensor:
        return positions(table, kind, torch.tensor([[rows, columns]]), rows * columns, side)[0]

    if kind == "bucket_2d" and SIDE % side == 0:
        return FittedTable(model_gives(SIDE, SIDE), 1.0)
    square = resolution // vision.patch_size
    index = torch.arange(SIDE) * square // SIDE
    values = model_gives(square, square)[(index.unsqueeze(1) * square + index).flatten()]  # where no shape reads
    shapes = slice_shapes(resolution, vision.patch_size)
    for shape, _ in reversed(shapes):
        values[entries(*shape)] = model_gives(*shape)
    equal = [count * (values[entries(*shape)] == model_gives(*shape)).all(dim=1).double() for shape, count in shapes]
    patches = sum(count * rows * columns for (rows, columns), count in shapes)
    return FittedTable(values, float(torch.cat(equal).sum()) / patches)


def entries(rows: int, columns: int) -> torch.Tensor:
    """What llama.cpp reads for the patches of a slice, in row-major order."""
    index = torch.arange(rows * columns)
    return index // columns * SIDE // rows * SIDE + index % columns * SIDE // columns


def slice_shapes(resolution: int, patch_size: int) -> list[tuple[Grid, int]]:
    """((rows, columns) of a slice in patches, how many ratios give it): the square, then the most common ones."""
    ratios = [LONGEST ** (step / STEPS) for step in range(-STEPS, STEPS + 1)]
    sizes = [fitted_size(resolution * ratio, resolution, resolution, patch_size, upscale=True) for ratio in ratios]
    counts = Counter((height // patch_size, width // patch_size) for width, height in sizes)
    return sorted(counts.items(), key=lambda item: (item[0][0] != item[0][1], -item[1]))
