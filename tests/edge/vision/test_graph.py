"""The graphs give the features of the model, for slices of any length, whatever pads them."""

import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from edge.policy import load_processor
from edge.slices import Slices
from edge.vision.encoder import DYNAMIC, STATIC, device_files, open_encoder
from edge.vision.graph import dynamic_graph, static_graph
from edge.vision.host import Host, static_length
from edge.vision.shape import POSITION_TABLE
from edge.vision.weights import read_shape, read_tensors
from model.image_processing import pack_slices
from rlaif.errors import InputError, ModelError
from scenes.source import scene_rows
from tests.support import ROOT
from tests.support.tiny import load_model, save_tiny_model

NEEDS = "needs the packages of requirements/edge.txt; run `make edge-runtime`"
onnx = pytest.importorskip("onnx", reason=NEEDS)
onnxruntime = pytest.importorskip("onnxruntime", reason=NEEDS)
EXACT = 2e-5  # of features of about 1, in float32


def of_model(folder: Path, slices: Slices) -> np.ndarray:
    """All slices in one batch: the features do not depend on it."""
    model, _ = load_model(folder)
    pixels = pack_slices([torch.from_numpy(strip) for strip in slices.strips])
    with torch.inference_mode():
        features: np.ndarray = model.get_image_features(pixels, torch.from_numpy(slices.sizes)).numpy()
    return features


def run_graph(file: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    features: np.ndarray = onnxruntime.InferenceSession(str(file)).run(None, inputs)[0]
    return features


@pytest.mark.parametrize("version", ["2.5", "2.6"])
def test_both_graphs_give_the_features_of_the_model(version: str, slices: Slices, tmp_path: Path) -> None:
    """2.5 has one-dimensional positions, 2.6 two-dimensional ones; each differs from the other's."""
    save_tiny_model(tmp_path, version=version)
    shape, tensors = read_shape(tmp_path), read_tensors(tmp_path)
    assert shape.positions == {"2.5": "bucket_1d", "2.6": "bucket_2d"}[version]
    expected = of_model(tmp_path, slices)
    dynamic, static = tmp_path / DYNAMIC, tmp_path / STATIC
    dynamic_graph(shape, tensors).save(dynamic)
    host = Host(shape, static_length(shape), tensors[POSITION_TABLE])
    static_graph(shape, tensors, host.length).save(static)
    other = Host(
        type(shape)(**{**vars(shape), "positions": "bucket_2d" if version == "2.5" else "bucket_1d"}),
        host.length,
        host.table,
    )
    for strip, (rows, columns), features in zip(slices.strips, slices.sizes.tolist(), expected, strict=True):
        inputs = {"pixel_values": strip[None], "tgt_sizes": np.array([[rows, columns]])}
        assert np.abs(run_graph(dynamic, inputs)[0] - features).max() < EXACT
        assert np.abs(run_graph(static, host.inputs(strip, (rows, columns)))[0] - features).max() < EXACT
        assert np.abs(run_graph(static, other.inputs(strip, (rows, columns)))[0] - features).max() > 100 * EXACT


def test_many_slices_in_one_batch(graphs: Path, tiny_model: Path, slices: Slices) -> None:
    """What pads them changes nothing; a tgt_size that covers the padding does."""
    pixels = pack_slices([torch.from_numpy(strip) for strip in slices.strips]).numpy()
    for (rows, columns), padded in zip(slices.sizes.tolist(), pixels, strict=True):
        padded[..., rows * columns * 14 :] = 7.0
    session = onnxruntime.InferenceSession(str(graphs / DYNAMIC))
    inputs = {"pixel_values": pixels, "tgt_sizes": slices.sizes.astype(np.int64)}
    expected = of_model(tiny_model, slices)
    assert np.abs(session.run(None, inputs)[0] - expected).max() < EXACT
    shortest = int(slices.sizes.prod(axis=1).argmin())
    inputs["tgt_sizes"][shortest] = (1, pixels.shape[-1] // 14)
    assert np.abs(session.run(None, inputs)[0][shortest] - expected[shortest]).max() > 100 * EXACT


def test_padding_never_has_the_highest_score(tmp_path: Path) -> None:
    """With ten times the queries, as a sharper policy has them, patches of zeros get a score that is higher than all
    others for some; the repeated patch that pads a slice here has none that a real patch has not.
    """
    policy = policy_with_queries(10, tmp_path / "policy")
    shape, tensors = read_shape(policy), read_tensors(policy)
    host = Host(shape, static_length(shape), tensors[POSITION_TABLE])
    static_graph(shape, tensors, host.length).save(tmp_path / STATIC)
    processor = load_processor(policy)
    exact: list[float] = []
    zeros: list[float] = []
    for scene in scene_rows("test", 12, seed=0):
        strips, sizes = processor.image_processor.slice(Image.open(BytesIO(scene.png)))
        strip, (rows, columns) = strips[0].numpy(), sizes[0].tolist()
        inputs = host.inputs(strip, (rows, columns))
        blank = {name: values.copy() for name, values in inputs.items()}
        for name in ("patches", "positions", "key_positions"):
            blank[name][:, rows * columns :] = 0
        reference = open_encoder(tmp_path, "torch", policy).encode(Slices([strip], sizes[:1].numpy()))[0]
        for errors, given in ((exact, inputs), (zeros, blank)):
            off = np.linalg.norm(run_graph(tmp_path / STATIC, given)[0] - reference)
            errors.append(float(off / np.linalg.norm(reference)))
    assert max(exact) < 1e-4
    assert max(zeros) > 0.1


def policy_with_queries(factor: float, folder: Path) -> Path:
    """The embedded policy with the queries of its resampler scaled, so that the scores of patches lie further apart."""
    shutil.copytree(ROOT / "assets" / "policy", folder)
    tensors = load_file(folder / "model.safetensors")
    for name in ("resampler.attn.in_proj_weight", "resampler.attn.in_proj_bias"):
        tensors[name][: len(tensors[name]) // 3] *= factor  # queries come before keys and values
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_static_graph_has_no_integers_but_shapes(graphs: Path) -> None:
    """And every size in it is fixed."""
    graph = onnx.load(str(graphs / STATIC)).graph
    operators = {node.op_type for node in graph.node}
    assert operators == {
        "Add",
        "Gelu",
        "LayerNormalization",
        "MatMul",
        "Mul",
        "Reshape",
        "Softmax",
        "Transpose",
    }
    integers = {tensor.name for tensor in graph.initializer if tensor.data_type != onnx.TensorProto.FLOAT}
    assert integers == {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    assert all(size.dim_value for value in graph.input for size in value.type.tensor_type.shape.dim)
    assert not all(
        size.dim_value
        for value in onnx.load(str(graphs / DYNAMIC)).graph.input
        for size in value.type.tensor_type.shape.dim
    )


def test_weights_keep_their_released_names(graphs: Path, tiny_model: Path) -> None:
    """All of them but what the resampler splits or computes once: its queries, and its first projection."""
    graph = onnx.load(str(graphs / DYNAMIC)).graph
    names = {tensor.name for tensor in graph.initializer}
    released = {name for name in read_tensors(tiny_model) if "attn.in_proj" not in name and "ln_q" not in name}
    assert {name.removesuffix(".weight") for name in released} <= {name.removesuffix(".weight") for name in names}


def test_weights_of_a_large_graph_lie_beside_it(graphs: Path, tiny_model: Path, slices: Slices, tmp_path: Path) -> None:
    """As at release size, where they are 2 GB."""
    (tmp_path / "large").mkdir()
    dynamic_graph(read_shape(tiny_model), read_tensors(tiny_model)).save(tmp_path / "large" / DYNAMIC, most_inline=1000)
    assert (tmp_path / "large" / DYNAMIC).stat().st_size < 50_000
    assert [file.name for file in device_files(tmp_path / "large", "cpu")] == ["vision.onnx", "vision.onnx.data"]
    inline, beside = (open_encoder(folder, "cpu").encode(slices) for folder in (graphs, tmp_path / "large"))
    assert np.array_equal(inline, beside)


def test_graphs_are_valid_onnx(graphs: Path) -> None:
    for name in (DYNAMIC, STATIC):
        onnx.checker.check_model(str(graphs / name), full_check=True)


def test_interpolated_positions_are_refused(tmp_path: Path) -> None:
    save_tiny_model(tmp_path, positions="interpolate")
    with pytest.raises(ModelError, match=r"interpolates .* exported are bucket_1d and bucket_2d .* with DEVICE=torch"):
        read_shape(tmp_path)


def test_a_policy_without_vision_or_cut_short_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no tensors of a vision encoder; expected vpm\.\*"):
        read_tensors(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"model.safetensors is damaged or truncated .* copy it again"):
        read_tensors(tmp_path)


def test_torch_is_the_model_itself(tiny_model: Path, slices: Slices, tmp_path: Path) -> None:
    encoder = open_encoder(tmp_path, "torch", tiny_model)
    assert np.abs(encoder.encode(slices) - of_model(tiny_model, slices)).max() < EXACT
