"""Adaptive slicing against the worked cases of the released model, and properties over random sizes."""

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.image_processing import MiniCPMVImageProcessor
from model.slicing import best_grid, fitted_size, refined_size, slice_image

# (width, height): grid, overview patches (rows, columns), slice (width, height) or None, slice patches, placeholders
CASES = {
    (448, 448): (None, (32, 32), None, None, 96),
    (100, 30): (None, (18, 58), None, None, 96),
    (640, 480): ((2, 1), (28, 37), (364, 546), (39, 26), 288),
    (800, 600): ((2, 2), (28, 37), (518, 392), (28, 37), 480),
    (500, 500): ((1, 2), (32, 32), (630, 322), (23, 45), 288),
    (1344, 1344): ((3, 3), (32, 32), (448, 448), (32, 32), 960),
    (1920, 1080): ((4, 2), (24, 43), (420, 476), (34, 30), 864),
    (4000, 300): ((7, 1), (9, 116), (616, 322), (23, 44), 768),
    (300, 4000): ((1, 7), (117, 9), (322, 616), (44, 23), 768),
}


@pytest.mark.parametrize("size", CASES)
def test_worked_cases(size: tuple[int, int]) -> None:
    grid, overview, slice_size, slice_patches, placeholders = CASES[size]
    processor = MiniCPMVImageProcessor()
    views, actual_grid = slice_image(Image.new("RGB", size), 448, 14, 9)
    assert actual_grid == grid == processor.get_sliced_grid(size)
    assert (views[0].height // 14, views[0].width // 14) == overview
    assert processor.get_slice_image_placeholder(size).count("<unk>") == placeholders
    for view in views[1:]:
        assert view.size == slice_size
        assert (view.height // 14, view.width // 14) == slice_patches


def test_extreme_ratio_gives_more_patches_than_the_position_table_has_rows() -> None:
    assert fitted_size(10, 2000, 448, 14, upscale=True) == (2 * 14, 452 * 14)


def test_slices_are_row_major() -> None:
    image = Image.new("RGB", (896, 896), "black")
    image.paste("red", (448, 0, 896, 448))  # top right
    views, grid = slice_image(image, 448, 14, 9)
    assert grid == (2, 2)
    assert [np.asarray(view)[224, 224, 0] > 128 for view in views[1:]] == [False, True, False, False]


@settings(max_examples=2000, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_properties(width: int, height: int) -> None:
    grid = best_grid((width, height), 448, 9)
    if grid is None:
        assert width * height <= 448**2
        return
    columns, rows = grid
    assert 2 <= columns * rows <= 9
    refined = refined_size((width, height), grid, 448, 14)
    assert refined[0] % (columns * 14) == 0 and refined[1] % (rows * 14) == 0
    ideal = min(-(-width * height // 448**2), 9)
    error = abs(log(width / height) - log(columns / rows))
    for count in (ideal - 1, ideal, ideal + 1):
        if 1 < count <= 9:
            for m in range(1, count + 1):
                if count % m == 0:
                    assert error <= abs(log(width / height) - log(m / (count // m))) + 1e-12


def test_slice_mode_off_gives_the_overview_alone() -> None:
    assert MiniCPMVImageProcessor(slice_mode=False).get_sliced_grid((1344, 1344)) is None
