"""Opens the vision encoder of a run for a device: `open_encoder(RUN/edge, "qnn-a16w8")`.

Files of RUN/edge and the device that reads them:

- cpu, openvino: vision.onnx
- openvino-npu: vision-static.onnx, vision-host.safetensors
- qnn-fp16 (also called qnn), qnn-a16w8: a context binary, vision-fp16-SOC.onnx or vision-a16w8-SOC.onnx, and
  vision-host.safetensors
- torch: the policy itself
"""

from pathlib import Path

from edge.vision.graph import WEIGHTS
from edge.vision.qnn import DEFAULT_SOC, check_soc, open_qnn
from edge.vision.sliced import VisionEncoder
from rlaif.errors import ConfigError, InputError

__all__ = ["DEVICES", "VisionEncoder", "check_device", "device_files", "open_encoder"]

DYNAMIC, STATIC, HOST, QUANTIZED = "vision.onnx", "vision-static.onnx", "vision-host.safetensors", "vision-a16w8.onnx"
DEVICES = ("cpu", "openvino", "openvino-npu", "qnn-fp16", "qnn-a16w8", "torch")
ALIASES = {"qnn": "qnn-fp16"}


def check_device(name: str) -> str:
    """The device that a name means. Errors: ConfigError: unknown name."""
    device = ALIASES.get(name, name)
    if device not in DEVICES:
        raise ConfigError(f"unknown device {name!r}; known are {', '.join([*ALIASES, *DEVICES])}; choose with DEVICE=")
    return device


def binary_name(device: str, soc: str) -> str:
    """The context binary of a device that starts with qnn."""
    return f"vision-{device.removeprefix('qnn-')}-{soc}.onnx"


def device_files(folder: Path, device: str, soc: str = DEFAULT_SOC) -> list[Path]:
    """The files in RUN/edge that a device reads; soc: of the qnn devices. Errors: InputError: some are missing."""
    device = check_device(device)
    names = {
        "cpu": [DYNAMIC],
        "openvino": [DYNAMIC],
        "openvino-npu": [STATIC, HOST],
        "qnn-fp16": [binary_name("qnn-fp16", soc), HOST],
        "qnn-a16w8": [binary_name("qnn-a16w8", soc), HOST],
        "torch": [],
    }[device]
    files = [folder / name for name in names]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        command = f"make edge-vision RUN={folder.parent}" + (f" SOC={soc}" if device.startswith("qnn") else "")
        raise InputError(f"no {' or '.join(missing)}; write what DEVICE={device} reads with `{command}`")
    return files + [data for file in files if (data := file.with_name(file.name + WEIGHTS)).is_file()]


def open_encoder(folder: Path, device: str, policy: Path | None = None, soc: str = DEFAULT_SOC) -> VisionEncoder:
    """The vision encoder of RUN/edge on a device.

    policy: the folder of the policy, which only the device torch reads. soc: of the qnn devices.
    Errors: ConfigError: unknown device or SoC; InputError: files are missing or damaged; ModelError: no such hardware.
    """
    device = check_device(device)
    files = [file for file in device_files(folder, device, check_soc(soc)) if file.suffix != WEIGHTS]
    if device == "torch":
        from edge.vision.runtimes import open_torch

        assert policy is not None, "the device torch reads the policy"
        return open_torch(policy)
    if device in ("cpu", "openvino"):
        from edge.vision.runtimes import open_cpu, open_openvino

        return (open_cpu if device == "cpu" else open_openvino)(files[0])
    if device == "openvino-npu":
        from edge.vision.runtimes import open_openvino_npu

        return open_openvino_npu(*files)
    binary, host = files
    return open_qnn(binary, host, device.removeprefix("qnn-"))
