"""The position table in llama.cpp's 70 x 70: exact where shapes of slices share no entry, near elsewhere."""

import pytest
import torch

from edge.gguf.positions import entries, fit_table, slice_shapes
from model.configuration import MiniCPMVVisionConfig
from model.vision import bucket_1d, positions


def vision(kind: str, side: int) -> MiniCPMVVisionConfig:
    return MiniCPMVVisionConfig(image_size=side * 14, patch_size=14, position_embedding_type=kind)


def numbered(side: int) -> torch.Tensor:
    """A table whose rows say their id."""
    return torch.arange(side * side).unsqueeze(1).float()


def ids(shape: tuple[int, int], side: int) -> torch.Tensor:
    return bucket_1d(torch.tensor([shape]), shape[0] * shape[1], side)[0]


def test_entries_are_buckets_of_70() -> None:
    assert entries(2, 3).tolist() == [0, 23, 46, 35 * 70, 35 * 70 + 23, 35 * 70 + 46]


def test_shapes_have_the_area_of_a_square_slice() -> None:
    counted = dict(slice_shapes(84, 14))
    assert next(iter(counted)) == (6, 6) and {(5, 7), (7, 5), (4, 9), (9, 4), (3, 12), (12, 3)} <= counted.keys()
    assert sum(counted.values()) == 4001
    assert all(24 <= rows * columns <= 48 for rows, columns in counted)
    assert {(32, 32), (28, 37), (39, 26), (23, 45)} <= dict(slice_shapes(448, 14)).keys()


@pytest.mark.parametrize("shape", [(6, 6), (5, 7), (7, 5)])
def test_slices_of_the_embedded_world_are_exact(shape: tuple[int, int]) -> None:
    fitted = fit_table(numbered(41), vision("bucket_1d", 41), 84)
    assert fitted.values.shape == (4900, 1)
    assert fitted.values[entries(*shape), 0].tolist() == ids(shape, 41).tolist()
    assert 0.8 < fitted.exact < 1


@pytest.mark.parametrize("shape", [(32, 32), (28, 37), (39, 26), (26, 39), (23, 45)])
def test_released_shapes_are_exact_or_near(shape: tuple[int, int]) -> None:
    fitted = fit_table(numbered(70), vision("bucket_1d", 70), 448)
    differences = (fitted.values[entries(*shape), 0] - ids(shape, 70)).abs()
    assert differences.max() <= (0 if shape == (32, 32) else 2)
    as_it_is = (numbered(70)[entries(*shape), 0] - ids(shape, 70)).abs()  # a plain copy of the table
    assert as_it_is.mean() > 1000 * differences.mean()


@pytest.mark.parametrize("side", [70, 35])
@pytest.mark.parametrize("shape", [(5, 7), (32, 32), (9, 100)])
def test_a_two_dimensional_table_whose_side_divides_70_is_exact(side: int, shape: tuple[int, int]) -> None:
    table = numbered(side)
    fitted = fit_table(table, vision("bucket_2d", side), 84)
    expected = positions(table, "bucket_2d", torch.tensor([shape]), shape[0] * shape[1], side)[0]
    assert fitted.exact == 1 and torch.equal(fitted.values[entries(*shape)], expected)
    if side == 70:
        assert torch.equal(fitted.values, table)


@pytest.mark.parametrize("kind", ["bucket_2d", "interpolate"])
def test_other_kinds_are_exact_for_square_slices(kind: str) -> None:
    torch.manual_seed(0)
    table = torch.randn(41 * 41, 3)
    fitted = fit_table(table, vision(kind, 41), 84)
    expected = positions(table, kind, torch.tensor([[6, 6]]), 36, 41)[0]
    assert torch.equal(fitted.values[entries(6, 6)], expected) and 0.3 < fitted.exact < 1
