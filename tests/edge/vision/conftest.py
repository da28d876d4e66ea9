"""The vision part of a tiny policy as graphs in files, and slices of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from edge.slices import Slices

NEEDS = "needs the packages of requirements/edge.txt; run `make edge-runtime`"
SIZES = [(56, 56), (30, 100), (120, 110), (57, 200)]  # without slices, squeezed, four slices, tall


@pytest.fixture(scope="session")
def graphs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as RUN/edge, with both graphs of the tiny policy and its host file."""
    pytest.importorskip("onnx", reason=NEEDS)
    from edge.vision.encoder import DYNAMIC, HOST, STATIC
    from edge.vision.graph import dynamic_graph, static_graph
    from edge.vision.host import Host, static_length
    from edge.vision.shape import POSITION_TABLE
    from edge.vision.weights import read_shape, read_tensors

    folder = tmp_path_factory.mktemp("edge")
    shape, tensors = read_shape(tiny_model), read_tensors(tiny_model)
    length = static_length(shape)
    dynamic_graph(shape, tensors).save(folder / DYNAMIC)
    static_graph(shape, tensors, length).save(folder / STATIC)
    Host(shape, length, tensors[POSITION_TABLE]).save(folder / HOST, {"revision": "r"})
    return folder


@pytest.fixture(scope="session")
def slices(tiny_model: Path) -> Slices:
    """The slices of several pictures of noise, of different lengths."""
    import numpy as np

    from edge.policy import load_processor
    from edge.slices import Slices
    from tests.support.tiny import noise_image

    images = load_processor(tiny_model).image_processor
    strips, sizes = zip(*(images.slice(noise_image(size, seed)) for seed, size in enumerate(SIZES)), strict=True)
    all_sizes = np.concatenate([size.numpy() for size in sizes])
    return Slices([strip.numpy() for part in strips for strip in part], all_sizes)
