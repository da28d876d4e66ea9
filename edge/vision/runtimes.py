"""Vision encoders of a laptop: onnxruntime on the CPU, OpenVINO on Intel's CPU or NPU, and torch as the reference."""

from pathlib import Path
from typing import Any

import numpy as np

from edge.slices import Floats
from edge.vision.host import read_host
from edge.vision.sliced import SliceBySlice, VisionEncoder
from rlaif.errors import InputError, ModelError

PRECISION = "f32"  # of OpenVINO's CPU plugin, which takes bfloat16 where the CPU has it: features are then 5% off


def open_cpu(model: Path) -> VisionEncoder:
    """onnxruntime on the CPU. model: `graph.dynamic_graph` in a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False  # memory is given back after each slice
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common class
        raise damaged(model, error) from error

    def encode_slice(strip: Floats, size: tuple[int, int]) -> Floats:
        inputs = {"pixel_values": strip[None], "tgt_sizes": np.array([size], dtype=np.int64)}
        features: Floats = session.run(None, inputs)[0][0]
        return features

    shape = session.get_outputs()[0].shape
    return SliceBySlice("onnxruntime, CPU, f32", (shape[1], shape[2]), encode_slice, revision_in(session))


def open_openvino(model: Path) -> VisionEncoder:
    """OpenVINO's CPU plugin in float32. model: `graph.dynamic_graph` in a file."""
    compiled, revision = _compile(model, "CPU", PRECISION)

    def encode_slice(strip: Floats, size: tuple[int, int]) -> Floats:
        result = compiled({"pixel_values": strip[None], "tgt_sizes": np.array([size], dtype=np.int64)})
        features: Floats = result[0][0]
        return features

    shape = compiled.output(0).partial_shape
    features_shape = (shape[1].get_length(), shape[2].get_length())
    return SliceBySlice(f"OpenVINO, CPU, {PRECISION}", features_shape, encode_slice, revision)


def open_openvino_npu(model: Path, host: Path) -> VisionEncoder:
    """OpenVINO's NPU plugin, in float16, which is all that the device has. model: `graph.static_graph` in a file.

    Errors: ModelError: this machine has no such device.
    """
    import openvino

    available = openvino.Core().available_devices
    if "NPU" not in available:
        raise ModelError(
            f"OpenVINO finds no NPU on this machine, only {', '.join(available) or 'nothing'}; install the driver of "
            "the NPU of an Intel Core Ultra, or use DEVICE=openvino, its CPU"
        )
    inputs_of = read_host(host)
    compiled, revision = _compile(model, "NPU", "f16")

    def encode_slice(strip: Floats, size: tuple[int, int]) -> Floats:
        features: Floats = compiled(inputs_of.inputs(strip, size))[0][0]
        return features

    return SliceBySlice("OpenVINO, NPU, f16", inputs_of.features_shape, encode_slice, revision)


def open_torch(policy: Path) -> VisionEncoder:
    """The policy's own modules in float32, without its language model. Errors: as `weights.read_tensors`."""
    import torch

    from edge.vision.weights import read_tensors
    from model.configuration import MiniCPMVConfig
    from model.resampler import Resampler
    from model.vision import VisionModel, patch_mask

    config = MiniCPMVConfig.from_pretrained(policy)
    vision: Any = config.vision_config
    modules = {
        "vpm.": VisionModel._from_config(vision, dtype=torch.float32),
        "resampler.": Resampler(config.query_num, config.hidden_size, vision.hidden_size),
    }
    tensors = read_tensors(policy)
    for prefix, module in modules.items():
        state = {
            name.removeprefix(prefix): torch.from_numpy(values)
            for name, values in tensors.items()
            if name.startswith(prefix)
        }
        module.load_state_dict(state)
        module.eval()

    @torch.inference_mode()
    def encode_slice(strip: Floats, size: tuple[int, int]) -> Floats:
        sizes = torch.tensor([size])
        hidden = modules["vpm."](torch.from_numpy(strip)[None], sizes)
        features: Floats = modules["resampler."](hidden, sizes, patch_mask(sizes, hidden.shape[1]))[0].numpy()
        return features

    return SliceBySlice("torch, CPU, f32", (config.query_num, config.hidden_size), encode_slice)


def revision_in(session: Any) -> str | None:
    """What a file that a session of onnxruntime has opened says about its policy."""
    revision: str | None = session.get_modelmeta().custom_metadata_map.get("revision")
    return revision


def damaged(file: Path, error: Exception) -> InputError:
    """The error of a file that a runtime cannot load."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return InputError(
        f"{file} cannot be loaded ({reason}); delete it and run `make edge-vision RUN={file.parent.parent}`"
    )


def _compile(model: Path, device: str, precision: str) -> tuple[Any, str | None]:
    """The model on a device, and the revision of its policy. Errors: InputError: the file is damaged."""
    import openvino

    try:
        settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        core = openvino.Core()
        read = core.read_model(str(model))
        path = ["framework", "revision"]  # where OpenVINO keeps what an ONNX file says about itself
        revision = read.get_rt_info(path).astype(str) if read.has_rt_info(path) else None
        return core.compile_model(read, device, settings), revision
    except RuntimeError as error:
        raise damaged(model, error) from error
