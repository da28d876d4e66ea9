"""Each device on the same slices: how far its features are off, what it refuses, what it says it is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.slices import Slices
from edge.vision.encoder import HOST, QUANTIZED, STATIC, binary_name, device_files, open_encoder
from edge.vision.host import read_host
from edge.vision.qnn import SOCS, compile_for
from edge.vision.quantize import calibration_inputs, quantize_graph
from rlaif.errors import ConfigError, InputError, ModelError
from tests.support import ROOT

NEEDS = "needs the packages of requirements/edge.txt; run `make edge-runtime`"
onnx = pytest.importorskip("onnx", reason=NEEDS)
pytest.importorskip("onnxruntime_qnn", reason=NEEDS)
pytest.importorskip("openvino", reason=NEEDS)

SOC = "snapdragon-8-gen-3"


@pytest.fixture(scope="module")
def folder(graphs: Path, slices: Slices) -> Path:
    """`graphs`, with the quantized graph and both context binaries."""
    host = read_host(graphs / HOST)
    quantize_graph(graphs / STATIC, graphs / QUANTIZED, calibration_inputs(host, [slices]))
    compile_for(graphs / STATIC, graphs / binary_name("qnn-fp16", SOC), SOC)
    compile_for(graphs / QUANTIZED, graphs / binary_name("qnn-a16w8", SOC), SOC)
    return graphs


@pytest.fixture(scope="module")
def reference(tiny_model: Path, folder: Path, slices: Slices) -> np.ndarray:
    return open_encoder(folder, "torch", tiny_model).encode(slices)


@pytest.mark.parametrize(
    ("device", "where", "least", "most"),
    [
        ("cpu", "onnxruntime, CPU, f32", 0, 1e-5),
        ("openvino", "OpenVINO, CPU, f32", 0, 1e-5),  # in bfloat16 1e-2 and more
        ("qnn", "QNN HTP emulator, fp16", 1e-5, 0.01),
        ("qnn-a16w8", "QNN HTP emulator, a16w8", 1e-4, 0.1),
    ],
)
def test_features_of_each_device(
    folder: Path, slices: Slices, reference: np.ndarray, device: str, where: str, least: float, most: float
) -> None:
    """Relative error of each slice, which is above that of float32 where fewer bits are used. Another slice's features
    are far away.
    """
    encoder = open_encoder(folder, device)
    features = encoder.encode(slices)
    encoder.close()
    assert encoder.where == where
    assert features.shape == reference.shape and features.dtype == np.float32
    error = np.linalg.norm(features - reference, axis=(1, 2)) / np.linalg.norm(reference, axis=(1, 2))
    assert least <= error.max() < most
    assert np.linalg.norm(features[0] - reference[1]) / np.linalg.norm(reference[1]) > 2 * most


def test_a_picture_without_slices_and_a_closed_encoder(folder: Path) -> None:
    encoder = open_encoder(folder, "cpu")
    assert encoder.encode(Slices([], np.zeros((0, 2), dtype=np.int32))).shape == (0, 4, 128)
    encoder.close()
    with pytest.raises(AssertionError, match="closed"):
        encoder.encode(Slices([], np.zeros((0, 2), dtype=np.int32)))


def test_encoders_import_no_torch(folder: Path) -> None:
    """Their memory is measured, and they run where torch is not."""
    code = (
        "import sys, json; from pathlib import Path\n"
        "from edge.vision.encoder import open_encoder\n"
        f"names = [open_encoder(Path({str(folder)!r}), device).where for device in ('cpu', 'openvino', 'qnn-a16w8')]\n"
        "print(json.dumps([len(names), 'torch' in sys.modules, 'transformers' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout) == [3, False, False], done.stderr  # and QNN's line is not on stdout


def test_a_node_that_the_npu_does_not_take_is_refused(tmp_path: Path) -> None:
    """Nothing falls back to the CPU; the same graph without that node compiles."""

    def graph(operator: str) -> Path:
        from onnx import TensorProto, helper

        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 4]) for name in "xy"]
        nodes = [helper.make_node("Abs", ["x"], ["a"], name="a"), helper.make_node(operator, ["a"], ["y"], name="y")]
        opsets = [helper.make_opsetid("", 21)]
        model = helper.make_model(
            helper.make_graph(nodes, "g", value[:1], value[1:]), opset_imports=opsets, ir_version=10
        )
        onnx.save(model, str(tmp_path / f"{operator}.onnx"))
        return tmp_path / f"{operator}.onnx"

    compile_for(graph("Neg"), tmp_path / "binary.onnx", SOC)
    assert (tmp_path / "binary.onnx").is_file()
    with pytest.raises(ModelError, match=r"not compile .*Erf.onnx for snapdragon-8-gen-3 .* fallback to CPU EP"):
        compile_for(graph("Erf"), tmp_path / "other.onnx", SOC)
    assert not (tmp_path / "other.onnx").exists()


@pytest.mark.parametrize("soc", [name for name in SOCS if name != SOC])
def test_a_binary_is_for_one_soc(folder: Path, tmp_path: Path, soc: str) -> None:
    """The emulator compiles for each; the binaries differ."""
    compile_for(folder / STATIC, tmp_path / "binary.onnx", soc)
    assert (tmp_path / "binary.onnx").read_bytes() != (folder / binary_name("qnn-fp16", SOC)).read_bytes()


def test_the_binary_of_the_named_soc_is_read(folder: Path, tmp_path: Path) -> None:
    other = "snapdragon-8-elite"
    for name in (HOST, binary_name("qnn-fp16", SOC)):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / binary_name("qnn-fp16", other)).write_bytes(b"cut short")
    assert open_encoder(tmp_path, "qnn").where == "QNN HTP emulator, fp16"
    with pytest.raises(InputError, match=r"vision-fp16-snapdragon-8-elite.onnx cannot be loaded"):
        open_encoder(tmp_path, "qnn", soc=other)
    with pytest.raises(InputError, match=r"no .*; .* `make edge-vision RUN=.* SOC=snapdragon-x-elite`"):
        open_encoder(tmp_path, "qnn", soc="snapdragon-x-elite")


def test_unknown_device_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown device 'gpu'; known are qnn, cpu, .* choose with DEVICE="):
        open_encoder(tmp_path, "gpu")
    with pytest.raises(InputError, match=r"no .*/vision.onnx; write what DEVICE=cpu reads with `make edge-vision"):
        open_encoder(tmp_path, "cpu")
    with pytest.raises(InputError, match=r"no .*vision-a16w8-snapdragon-8-gen-3.onnx or .*vision-host.safetensors;"):
        device_files(tmp_path, "qnn-a16w8")


@pytest.mark.parametrize("device", ["cpu", "openvino", "qnn", "qnn-a16w8"])
def test_a_file_cut_short_is_refused(folder: Path, tmp_path: Path, device: str) -> None:
    graph, *others = device_files(folder, device)
    for file in others:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / graph.name).write_bytes(graph.read_bytes()[:-1000])
    with pytest.raises(InputError, match=rf"{graph.name} cannot be loaded \(.+\); delete it and run `make"):
        open_encoder(tmp_path, device)


def test_a_machine_without_an_intel_npu_says_so(folder: Path) -> None:
    import openvino

    if "NPU" in openvino.Core().available_devices:
        pytest.skip("this machine has an NPU")
    with pytest.raises(ModelError, match=r"OpenVINO finds no NPU on this machine, only CPU; .* DEVICE=openvino"):
        open_encoder(folder, "openvino-npu")


def test_calibration_slices_are_spread_over_all_pictures(folder: Path, slices: Slices) -> None:
    host = read_host(folder / HOST)
    count = len(slices.strips)
    chosen = list(calibration_inputs(host, [slices, slices], count=3))  # of 2 * count slices: 0, count, 2 * count - 1
    assert len(chosen) == 3
    for inputs, index in zip(chosen, (0, round(count - 0.5), 2 * count - 1), strict=True):
        rows, columns = slices.sizes[index % count].tolist()
        assert np.array_equal(inputs["patches"], host.inputs(slices.strips[index % count], (rows, columns))["patches"])
    assert len(list(calibration_inputs(host, [slices], count=100))) == count
