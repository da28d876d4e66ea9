"""Adaptive slicing: which grid an image is cut into, and the size of the overview and of every slice.

Source: paper (arXiv 2408.01800) section 3.2; the arithmetic is that of the released MiniCPM-Llama3-V 2.5, where it
differs from the paper's formula only in the cap on the number of slices, the exclusion of one slice, and the order of
ties. Sizes are (width, height) in pixels, grids are (columns, rows).
"""

from math import ceil, log, sqrt

from PIL import Image

Size = tuple[int, int]
Grid = tuple[int, int]


def round_to_multiple(length: float, multiple: int) -> int:
    """The multiple nearest to `length` (Python's rounding: halves go to even), and never less than one of it."""
    return max(round(length / multiple) * multiple, multiple)


def best_grid(size: Size, scale_resolution: int, max_slices: int) -> Grid | None:
    """The (columns, rows) whose slices come nearest to the encoder's square, or None where the overview is enough.

    The ideal number of slices is N = ceil(W * H / scale_resolution^2), capped; all factorisations of N - 1, N and N + 1
    compete (a prime N is then not stuck with one row) and the one with the least abs(log(W / H) - log(columns / rows))
    wins, the first one on a tie.
    """
    width, height = size
    ideal = min(ceil(width * height / scale_resolution**2), max_slices)
    if ideal <= 1:
        return None
    counts = [count for count in (ideal - 1, ideal, ideal + 1) if 1 < count <= max_slices]
    candidates = [
        (columns, count // columns) for count in counts for columns in range(1, count + 1) if count % columns == 0
    ]
    aspect = log(width / height)
    return min(candidates, key=lambda grid: abs(aspect - log(grid[0] / grid[1])))  # min keeps the first of equals


def fitted_size(width: float, height: float, scale_resolution: int, patch_size: int, upscale: bool) -> Size:
    """The size with the same aspect ratio whose area is scale_resolution^2, both sides multiples of the patch size; a
    smaller image is left as it is unless `upscale`.
    """
    if width * height > scale_resolution**2 or upscale:
        ratio = width / height
        height = int(scale_resolution / sqrt(ratio))
        width = int(height * ratio)
    return round_to_multiple(width, patch_size), round_to_multiple(height, patch_size)


def refined_size(size: Size, grid: Grid, scale_resolution: int, patch_size: int) -> Size:
    """The size the whole image is resized to before it is cut into `grid`: every slice then has the encoder's area
    and sides of whole patches.
    """
    columns, rows = grid
    width, height = round_to_multiple(size[0], columns), round_to_multiple(size[1], rows)
    slice_width, slice_height = fitted_size(width / columns, height / rows, scale_resolution, patch_size, upscale=True)
    return slice_width * columns, slice_height * rows


def slice_image(
    image: Image.Image, scale_resolution: int, patch_size: int, max_slices: int
) -> tuple[list[Image.Image], Grid | None]:
    """The overview followed by the slices in row-major order, and the grid they were cut in (None: the overview
    alone).
    """
    grid = best_grid(image.size, scale_resolution, max_slices)
    overview_size = fitted_size(*image.size, scale_resolution, patch_size, upscale=grid is None)
    views = [image.resize(overview_size, Image.Resampling.BICUBIC)]
    if grid is not None:
        columns, rows = grid
        refined = image.resize(refined_size(image.size, grid, scale_resolution, patch_size), Image.Resampling.BICUBIC)
        width, height = refined.width // columns, refined.height // rows
        views += [
            refined.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))
            for row in range(rows)
            for column in range(columns)
        ]
    return views, grid
