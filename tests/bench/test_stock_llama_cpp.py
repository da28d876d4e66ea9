"""What stock llama.cpp costs: each group of scenes differs in what its name says, and in nothing else."""

from bench.comparisons.stock_llama_cpp import GROUPS, PATCH, RESOLUTION, pictures
from model.slicing import best_grid, refined_size


def test_sizes_are_what_the_groups_say() -> None:
    square, copied, squeezed, beyond, bars, refined = GROUPS
    assert (
        copied.sizes == square.sizes and copied.copied and not any(group.copied for group in GROUPS if group != copied)
    )
    for width, height in square.sizes:
        assert width == height <= RESOLUTION
    for width, height in squeezed.sizes:
        assert width != height and max(width, height) <= RESOLUTION
    for size in beyond.sizes:
        assert best_grid(size, RESOLUTION, 9) is None and max(size) > RESOLUTION
    for size in bars.sizes:
        assert best_grid(size, RESOLUTION, 9) is not None
    assert refined.sizes == bars.sizes and refined.at_refined_size


def test_pictures_at_the_refined_size_stay_as_they_are() -> None:
    (refined,) = [group for group in GROUPS if group.at_refined_size]
    sizes = {image.size for image in pictures(refined)}
    assert len(sizes) == len(refined.sizes)
    for size in sizes:
        grid = best_grid(size, RESOLUTION, 9)
        assert grid is not None and refined_size(size, grid, RESOLUTION, PATCH) == size
