"""Adaptive slicing: the grid that an image is cut into, and the sizes of the overview and of each slice.

Source: paper (arXiv 2408.01800) section 3.2, in the arithmetic of the released MiniCPM-Llama3-V 2.5. That one differs
from the paper's formula only in the cap on the number of slices, the exclusion of one slice, and the order of ties.
Sizes are (width, height) in pixels, grids are (columns, rows).
"""

from math import ceil, log, sqrt

from PIL import Image

Size = tuple[int, int]
Grid = tuple[int, int]


def round_to_multiple(length: float, multiple: int) -> int:
    """The multiple nearest to `length`, halves rounded to even as Python does; at least `multiple`."""
    return max(round(length / multiple) * multiple, multiple)


def best_grid(size: Size, scale_resolution: int, max_slices: int) -> Grid | None:
    """The (columns, rows) whose slices are closest to a square; None if the overview is enough.

    The ideal number of slices is n = ceil(W * H / scale_resolution^2), at most max_slices. Candidates are all
    factorizations of n - 1, n and n + 1, so that a prime n is not limited to one row. The grid with the smallest
    abs(log(W / H) - log(columns / rows)) is returned, on a tie the first.
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
    return min(candidates, key=lambda grid: abs(aspect - log(grid[0] / grid[1])))  # min returns the first on a tie


def fitted_size(width: float, height: float, scale_resolution: int, patch_size: int, upscale: bool) -> Size:
    """The size of the same aspect ratio with an area of scale_resolution^2, both sides rounded to whole patches.

    An image with a smaller area keeps its size, rounded to whole patches, unless `upscale`.
    """
    if width * height > scale_resolution**2 or upscale:
        ratio = width / height
        height = int(scale_resolution / sqrt(ratio))
        width = int(height * ratio)
    return round_to_multiple(width, patch_size), round_to_multiple(height, patch_size)


def refined_size(size: Size, grid: Grid, scale_resolution: int, patch_size: int) -> Size:
    """The size that the image is resized to before it is cut into `grid`.

    Each slice then has an area of about scale_resolution^2 and sides of whole patches.
    """
    columns, rows = grid
    width, height = round_to_multiple(size[0], columns), round_to_multiple(size[1], rows)
    slice_width, slice_height = fitted_size(width / columns, height / rows, scale_resolution, patch_size, upscale=True)
    return slice_width * columns, slice_height * rows


def at_refined_size(image: Image.Image, grid: Grid | None, scale_resolution: int, patch_size: int) -> Image.Image:
    """The image as it is cut into `grid`; unchanged for None, where it is not cut."""
    if grid is None:
        return image
    return image.resize(refined_size(image.size, grid, scale_resolution, patch_size), Image.Resampling.BICUBIC)


def slice_image(
    image: Image.Image, scale_resolution: int, patch_size: int, max_slices: int
) -> tuple[list[Image.Image], Grid | None]:
    """The overview followed by the slices in row-major order, and their grid (None: the overview alone)."""
    grid = best_grid(image.size, scale_resolution, max_slices)
    overview_size = fitted_size(*image.size, scale_resolution, patch_size, upscale=grid is None)
    views = [image.resize(overview_size, Image.Resampling.BICUBIC)]
    if grid is not None:
        columns, rows = grid
        refined = at_refined_size(image, grid, scale_resolution, patch_size)
        width, height = refined.width // columns, refined.height // rows
        views += [
            refined.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))
            for row in range(rows)
            for column in range(columns)
        ]
    return views, grid
