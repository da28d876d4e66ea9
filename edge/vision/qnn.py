"""The NPU of a Snapdragon through onnxruntime-qnn: everything that is private or peculiar to it stands here.

Tested with onnxruntime-qnn 2.7.0. A context binary holds the graph compiled for one SoC, as an ONNX file with one node.
On x86 the libraries have no NPU, but an emulator of the HTP (Hexagon Tensor Processor), which compiles for any SoC and
runs that very binary: its numbers are those of 16-bit units, its speed says nothing about a phone.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edge.slices import Floats
from edge.vision.host import read_host
from edge.vision.runtimes import damaged, revision_in
from edge.vision.sliced import SliceBySlice, VisionEncoder
from rlaif.errors import ConfigError, ModelError

PROVIDER = "QNNExecutionProvider"


@dataclass(frozen=True)
class Soc:
    """A Snapdragon by Qualcomm's number for it (QNN_SOC_MODEL_*), and the version of its HTP."""

    number: int
    htp: int
    part: str


SOCS = {
    "snapdragon-8-gen-2": Soc(43, 73, "SM8550"),
    "snapdragon-8-gen-3": Soc(57, 75, "SM8650"),  # the paper's phone
    "snapdragon-8-elite": Soc(69, 79, "SM8750"),
    "snapdragon-8-elite-gen-5": Soc(87, 81, "SM8850"),
    "snapdragon-x-elite": Soc(60, 73, "SC8380XP"),
}
DEFAULT_SOC = "snapdragon-8-gen-3"


def check_soc(name: str) -> str:
    """Errors: ConfigError: unknown name."""
    if name not in SOCS:
        raise ConfigError(f"unknown SoC {name!r}; known are {', '.join(SOCS)}; choose one with SOC=")
    return name


def compile_for(model: Path, target: Path, soc: str) -> None:
    """Compile `graph.static_graph`, or its quantized form, for a SoC into the context binary `target`.

    A graph in float32 is computed in float16, one with 16-bit quantized tensors in integers.
    Errors: ModelError: a node that the HTP does not take (nothing falls back to the CPU), or another refusal.
    """
    options = {"soc_model": str(SOCS[soc].number), "htp_arch": str(SOCS[soc].htp)}
    entries = {"ep.context_enable": "1", "ep.context_file_path": str(target), "ep.context_embed_mode": "1"}
    try:
        _session(model, options, entries)
    except Exception as error:  # onnxruntime's exceptions have no common class
        target.unlink(missing_ok=True)  # a binary of the nodes that were taken
        raise ModelError(
            f"QNN does not compile {model} for {soc} ({_first_line(error)}); expected a graph that runs on the HTP in "
            "whole; write it again with `make edge-vision`, or choose another SOC="
        ) from error
    if not target.is_file():
        raise ModelError(f"QNN compiled {model} for {soc} and wrote no context binary; check the disk, and try again")


def open_qnn(binary: Path, host: Path, precision: str) -> VisionEncoder:
    """An encoder over a context binary, on the NPU where there is one, else on the emulator.

    Errors: InputError: it is damaged.
    """
    inputs_of = read_host(host)
    try:
        session = _session(binary, {}, {})
    except Exception as error:  # as above
        raise damaged(binary, error) from error

    def encode_slice(strip: Floats, size: tuple[int, int]) -> Floats:
        features: Floats = session.run(None, inputs_of.inputs(strip, size))[0][0]
        return features

    where = f"QNN {'HTP' if has_npu() else 'HTP emulator'}, {precision}"
    return SliceBySlice(where, inputs_of.features_shape, encode_slice, revision_in(session))


def has_npu() -> bool:
    """Whether QNN's device is an NPU; otherwise it is the emulator."""
    import onnxruntime

    return any(device.device.type == onnxruntime.OrtHardwareDeviceType.NPU for device in _devices())


@cache
def _devices() -> list[Any]:
    """QNN's devices of onnxruntime, registered once in a process."""
    import onnxruntime
    import onnxruntime_qnn

    onnxruntime.set_default_logger_severity(3)
    onnxruntime.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]


def _session(model: Path, options: dict[str, str], entries: dict[str, str]) -> Any:
    import onnxruntime
    import onnxruntime_qnn

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # its errors are raised too
    for key, value in {"session.disable_cpu_ep_fallback": "1", **entries}.items():
        settings.add_session_config_entry(key, value)
    backend = {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "offload_graph_io_quantization": "0"}
    with _stdout_to_stderr():
        settings.add_provider_for_devices(_devices(), backend | options)
        return onnxruntime.InferenceSession(str(model), settings)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """QNN's libraries print a line to stdout, where an answer is expected."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
