"""The vision part as mmproj: llama.cpp's graph over the file gives the model's features."""

from pathlib import Path
from typing import Any

import pytest
import torch

from edge.gguf.export import write_mmproj
from edge.gguf.file import read_header
from edge.gguf.mmproj import build_mmproj, resampler_shapes, vision_shapes
from edge.gguf.weights import Weights
from edge.policy import Policy, load_processor
from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration
from model.configuration import MiniCPMVVisionConfig
from rlaif.errors import ModelError
from tests.support import ROOT
from tests.support.edge import llama_cpp_graph
from tests.support.tiny import save_tiny_model

EMBEDDED = ROOT / "assets" / "policy"


def features_of_both(folder: Path, file: Path, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [Q, D] of a random slice: of the model in float64, and of llama.cpp's graph over the file."""
    rows, columns = grid
    torch.manual_seed(0)
    strip = torch.rand(3, 14, rows * columns * 14) * 2 - 1
    model: Any = MiniCPMVForConditionalGeneration.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        expected = model.get_image_features(strip.unsqueeze(0).double(), torch.tensor([grid]))[0]
    return expected, llama_cpp_graph.encode(file, strip, rows, columns)


def relative(given: torch.Tensor, expected: torch.Tensor) -> float:
    return float((given[:, : expected.shape[1]] - expected).norm() / expected.norm())


def write(folder: Path, out: Path) -> Path:
    return write_mmproj(Policy(folder, "x", "0"), out)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2.5", "2.6"])
@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (2, 9)])
def test_every_slice_is_exact_with_two_dimensional_positions(
    version: str, grid: tuple[int, int], tmp_path: Path
) -> None:
    """Width 128, padded to 256; the position table has a side of 10, which divides 70."""
    save_tiny_model(tmp_path / "model", version=version, positions="bucket_2d")
    file = write(tmp_path / "model", tmp_path)
    expected, given = features_of_both(tmp_path / "model", file, grid)
    assert given.shape == (4, 256) and given[:, 128:].abs().max() == 0
    assert relative(given, expected) < 2e-3  # the vision encoder is rounded to float16
    assert read_header(file).metadata["rlaif.positions_exact"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("grid", [(6, 6), (5, 7), (7, 5)])
def test_the_embedded_policy_is_exact_for_the_slices_of_its_world(grid: tuple[int, int], tmp_path: Path) -> None:
    """Width 256, which fits; one-dimensional positions."""
    file = write(EMBEDDED, tmp_path)
    expected, given = features_of_both(EMBEDDED, file, grid)
    assert given.shape == expected.shape == (16, 256)
    assert relative(given, expected) < 1e-4
    metadata = read_header(file).metadata
    assert metadata["rlaif.positions"] == "bucket_1d" and 0.8 < metadata["rlaif.positions_exact"] < 1
    assert metadata["rlaif.score_error"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (2, 9)])
def test_a_head_that_is_wider_than_those_of_llama_cpp_is_divided(grid: tuple[int, int], tmp_path: Path) -> None:
    """Width 192: one head of 192 in two of 128, other frequencies."""
    save_tiny_model(tmp_path / "model", positions="bucket_2d", width=192)
    file = write(tmp_path / "model", tmp_path)
    expected, given = features_of_both(tmp_path / "model", file, grid)
    assert given.shape == (4, 256) and given[:, 192:].abs().max() < 1e-5
    assert relative(given, expected) < 2e-3  # the vision encoder is rounded to float16
    assert 0 < read_header(file).metadata["rlaif.score_error"] < 1e-3


@pytest.mark.slow
def test_a_width_that_fits_is_stored_in_float16_as_it_is(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model", version="2.6", positions="bucket_2d", width=256)
    file = write(tmp_path / "model", tmp_path)
    expected, given = features_of_both(tmp_path / "model", file, (3, 5))
    assert given.shape == expected.shape == (4, 256)
    assert relative(given, expected) < 2e-3
    tensors = read_header(file).tensors
    assert tensors["resampler.attn.q.weight"].type == tensors["v.patch_embd.weight"].type == "F16"
    assert tensors["resampler.query"].type == tensors["v.blk.0.ln1.weight"].type == "F32"


def test_released_sizes_have_every_parameter() -> None:
    """417,792,240 of the vision encoder and 89,038,848 of the resampler, as published."""
    config = MiniCPMVConfig()
    vision: Any = config.vision_config
    assert isinstance(vision, MiniCPMVVisionConfig)
    for shapes, parameters in (
        (vision_shapes(vision), 417_792_240),
        (resampler_shapes(config, vision), 89_038_848),
    ):
        assert sum(torch.Size(shape).numel() for shape in shapes.values()) == parameters


@pytest.mark.parametrize(
    ("section", "setting", "value"),
    [("vision", "layer_norm_eps", 1e-5), ("vision", "hidden_act", "gelu"), ("config", "drop_vision_last_layer", True)],
)
def test_what_llama_cpp_does_not_compute_is_refused(
    section: str, setting: str, value: Any, tiny_model: Path, tmp_path: Path
) -> None:
    config: Any = MiniCPMVConfig.from_pretrained(tiny_model)
    setattr(config.vision_config if section == "vision" else config, setting, value)
    images = load_processor(tiny_model).image_processor
    with (
        Weights.open(tiny_model) as weights,
        pytest.raises(ModelError, match=rf"{setting} {value!r}, expected .*`make edge-answer`, which needs no mmproj"),
    ):
        build_mmproj(weights, config, images, "x")
