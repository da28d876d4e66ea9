"""What the host computes for a static graph, against the model and against values derived by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge.vision.host import (
    LONGEST_SIDE_RATIO,
    MASKED,
    Host,
    key_positions,
    position_ids,
    read_host,
    static_length,
)
from edge.vision.shape import VisionShape
from model.resampler import sincos_positions
from model.slicing import best_grid, fitted_size, refined_size
from model.vision import bucket_1d, bucket_2d
from rlaif.errors import InputError

SHAPE = VisionShape(
    width=4,
    layers=1,
    heads=1,
    eps=1e-6,
    patch=2,
    resolution=8,
    positions="bucket_1d",
    table_side=3,
    queries=2,
    out_width=8,
    out_heads=1,
    out_eps=1e-6,
)
TABLE = np.arange(36, dtype=np.float32).reshape(9, 4)
GRIDS = [(1, 1), (3, 3), (2, 5), (5, 2), (1, 9), (28, 37)]


@pytest.mark.parametrize("size", GRIDS)
def test_position_ids_are_those_of_the_model(size: tuple[int, int]) -> None:
    sizes = torch.tensor([size])
    for kind, of_model in (("bucket_1d", bucket_1d), ("bucket_2d", bucket_2d)):
        expected = of_model(sizes, size[0] * size[1], 7)[0]
        assert position_ids(kind, size, 7).tolist() == expected.tolist()


def test_position_ids_by_hand() -> None:
    """A slice of 2 x 3 patches in a table of 4 x 4: patch 4 is in row 1 and column 1."""
    assert position_ids("bucket_1d", (2, 3), 4).tolist() == [0, 0, 1, 2, 2, 3]  # k * 4 // 6
    assert position_ids("bucket_2d", (2, 3), 4).tolist() == [0, 1, 2, 8, 9, 10]  # row 1 * 4 // 2 = 2, two rows of 4


@pytest.mark.parametrize("size", GRIDS)
def test_key_positions_are_those_of_the_model(size: tuple[int, int]) -> None:
    expected = sincos_positions(torch.tensor([size]), size[0] * size[1], 32)[0].numpy()
    np.testing.assert_allclose(key_positions(size, 32), expected, atol=2e-6)
    if size[0] != size[1]:  # the column comes first
        assert not np.allclose(key_positions(size[::-1], 32), expected, atol=1e-2)


def test_static_length_by_hand() -> None:
    """448 / 14 = 32 patches a side: (32 / sqrt 8 + 0.5) * (32 * sqrt 8 + 0.5) = 1075.0, the next multiple of 16 is
    1088. Embedded models: 84 / 14 = 6, 45.7, 48.
    """
    assert static_length(replace(SHAPE, resolution=448, patch=14)) == 1088
    assert static_length(replace(SHAPE, resolution=84, patch=14)) == 48


@pytest.mark.parametrize("resolution", [84, 448])
def test_every_slice_of_an_image_within_the_ratio_fits(resolution: int) -> None:
    length = static_length(replace(SHAPE, resolution=resolution, patch=14))
    longest = 0
    for width in range(20, 2000, 23):
        for height in range(20, 2000, 29):
            if max(width, height) > LONGEST_SIDE_RATIO * min(width, height):
                continue
            grid = best_grid((width, height), resolution, 9)
            sizes = [fitted_size(width, height, resolution, 14, upscale=grid is None)]
            if grid is not None:
                refined = refined_size((width, height), grid, resolution, 14)
                sizes.append((refined[0] // grid[0], refined[1] // grid[1]))
            longest = max(longest, *(columns * rows // 14**2 for columns, rows in sizes))
    assert 0.85 * length < longest <= length


def test_inputs_by_hand() -> None:
    """Two patches of 2 x 2 pixels side by side: each becomes channels, then rows, then columns."""
    strip = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    inputs = Host(SHAPE, 4, TABLE).inputs(strip, (1, 2))
    assert {name: values.shape for name, values in inputs.items()} == {
        "patches": (1, 4, 12),
        "positions": (1, 4, 4),
        "key_positions": (1, 4, 8),
        "mask": (1, 1, 1, 4),
    }
    assert all(values.dtype == np.float32 for values in inputs.values())
    assert inputs["patches"][0, 0].tolist() == [0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21]
    assert inputs["patches"][0, 1].tolist() == [2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23]
    assert inputs["positions"][0].tolist() == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [0, 1, 2, 3],
        [0, 1, 2, 3],
    ]  # ids 0 and 1 * 3 // 2
    assert inputs["mask"].ravel().tolist() == [0, 0, MASKED, MASKED]
    assert inputs["key_positions"][0, 0].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    for name in ("patches", "key_positions"):  # padding repeats the first patch
        assert np.array_equal(inputs[name][0, 2:], inputs[name][0, [0, 0]])


def test_a_slice_that_is_too_long_is_refused() -> None:
    strip = np.zeros((3, 2, 10), dtype=np.float32)
    with pytest.raises(InputError, match=r"a slice of 1 x 5 patches does not fit .* has 4: .* use DEVICE=cpu"):
        Host(SHAPE, 4, TABLE).inputs(strip, (1, 5))


def test_the_host_file_is_read_back(tmp_path: Path) -> None:
    host = Host(SHAPE, 4, TABLE)
    host.save(tmp_path / "host.safetensors", {"revision": "abc", "policy": "p"})
    kept = read_host(tmp_path / "host.safetensors")
    assert (kept.shape, kept.length, kept.features_shape) == (SHAPE, 4, (2, 8))
    assert kept.table.tolist() == TABLE.tolist()


@pytest.mark.parametrize("damage", ["cut", "text"])
def test_a_damaged_host_file_is_refused(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "host.safetensors"
    Host(SHAPE, 4, TABLE).save(file, {"revision": "abc"})
    file.write_bytes(file.read_bytes()[:-20] if damage == "cut" else b"not tensors")
    with pytest.raises(InputError, match=r"host.safetensors is damaged .* run `make edge-vision RUN=.*`"):
        read_host(file)
