"""Writes the vision part of a run's policy for devices, into RUN/edge.

    make edge-vision RUN=runs/demo SOC=snapdragon-8-gen-3
    python -m edge.vision --config configs/demo.yaml --run runs/demo --soc snapdragon-8-gen-3

- vision.onnx: any number of slices of any length, for CPUs
- vision-static.onnx, vision-host.safetensors: one slice of a fixed length, and what its host needs, for NPUs
- vision-a16w8.onnx: the static graph with 16-bit activations and 8-bit weights, calibrated on pictures of the run
- vision-fp16-SOC.onnx, vision-a16w8-SOC.onnx: both compiled for a Snapdragon

Each file names its policy and revision, the code version and the library that wrote it. A file of the same revision
is kept; one of another is written again.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from edge.pictures import read_pictures
from edge.policy import Policy, load_processor, locked_folder
from edge.prompt import encode_prompt
from edge.slices import Slices
from edge.vision import encoder
from edge.vision.graph import WEIGHTS, dynamic_graph, static_graph
from edge.vision.host import Host, read_host, static_length
from edge.vision.qnn import DEFAULT_SOC, SOCS, check_soc, compile_for, has_npu
from edge.vision.quantize import CALIBRATION_SLICES, calibration_inputs, quantize_graph
from edge.vision.shape import POSITION_TABLE
from edge.vision.weights import read_shape, read_tensors
from rlaif.config import Config
from rlaif.storage.versions import code_version

VERSION = "1"  # raise it when other files are written from the same policy
CALIBRATION_SPLIT = "train"  # not the pictures that exports are measured on
CALIBRATION_ADVICE = "A16W8 takes its ranges from pictures of that split: run `make generate` on data that has it"


def export_vision(config: Config, run: Path, soc: str = DEFAULT_SOC) -> list[Path]:
    """Write the files of every device; returns them. Errors: RlaifError for anything that the user can fix."""
    print(f"edge-vision: {run}")
    check_soc(soc)
    export = Export(config, run, soc, Policy.of(config, run))
    for device in encoder.DEVICES:
        export.files(device)
    files = sorted(export.folder.glob("vision*"))
    for file in files:
        print(f"  {'wrote' if file in export.written else 'kept':8} {file} ({file.stat().st_size / 1e6:,.2f} MB)")
    chip = SOCS[soc]
    print(
        f"  compiled for {soc} ({chip.part}, HTP v{chip.htp}), which "
        + ("runs on this machine's NPU" if has_npu() else "this machine runs in QNN's emulator only")
    )
    print(f"  next     make edge-check RUN={run}, or make edge-answer RUN={run} DEVICE=qnn IMAGE=FILE")
    return files


def ensure_vision(config: Config, policy: Policy, run: Path, device: str, soc: str = DEFAULT_SOC) -> list[Path]:
    """Write what a device reads where it is missing or of another revision of the policy; returns its files."""
    return Export(config, run, soc, policy).files(device)


class Export:
    """RUN/edge, in which no other process writes, and the policy that its files are written from.

    written: what has been written so far. Errors: InputError: see `locked_folder`.
    """

    def __init__(self, config: Config, run: Path, soc: str, policy: Policy) -> None:
        self.config, self.run, self.soc, self.policy = config, run, soc, policy
        self.folder = locked_folder(run)
        self.origin = {
            "policy": policy.name,
            "revision": policy.revision,
            "export_version": VERSION,
            "code_version": code_version(),
        }
        self.written: list[Path] = []

    def files(self, device: str) -> list[Path]:
        """The files of a device, those that it reads last."""
        device = encoder.check_device(device)
        if device in ("cpu", "openvino"):
            self._graph(encoder.DYNAMIC)
        elif device != "torch":
            self._graph(encoder.STATIC)
            self._host()
        if device == "qnn-a16w8":
            self._quantized()
        if device.startswith("qnn"):
            self._binary(device)
        return encoder.device_files(self.folder, device, self.soc)

    def _graph(self, name: str) -> None:
        file = self.folder / name
        if self._is_current(file):
            return
        shape, tensors = read_shape(self.policy.folder), read_tensors(self.policy.folder)
        with self._writing(file, "onnx") as temporary:
            if name == encoder.STATIC:
                static_graph(shape, tensors, static_length(shape)).save(temporary)
            else:
                dynamic_graph(shape, tensors).save(temporary)

    def _host(self) -> None:
        file = self.folder / encoder.HOST
        if not self._is_current(file):
            shape = read_shape(self.policy.folder)
            table = read_tensors(self.policy.folder)[POSITION_TABLE]
            Host(shape, static_length(shape), table).save(file, self.origin)
            self.written.append(file)

    def _quantized(self) -> None:
        file = self.folder / encoder.QUANTIZED
        if not self._is_current(file):
            host = read_host(self.folder / encoder.HOST)
            with self._writing(file, "onnxruntime") as temporary:
                inputs = calibration_inputs(host, self._calibration_slices())
                quantize_graph(self.folder / encoder.STATIC, temporary, inputs)

    def _binary(self, device: str) -> None:
        file = self.folder / encoder.binary_name(device, self.soc)
        if not self._is_current(file):
            graph = encoder.QUANTIZED if device == "qnn-a16w8" else encoder.STATIC
            with self._writing(file, "onnxruntime-qnn", soc=self.soc) as temporary:
                compile_for(self.folder / graph, temporary, self.soc)

    def _calibration_slices(self) -> Iterator[Slices]:
        processor = load_processor(self.policy.folder)
        pictures = read_pictures(self.config, self.run, CALIBRATION_SPLIT, CALIBRATION_SLICES, CALIBRATION_ADVICE)
        for picture in pictures:
            slices = encode_prompt(processor, picture.image, picture.instruction).slices
            assert slices is not None, "there is a picture"
            yield slices

    def _is_current(self, file: Path) -> bool:
        """Whether a file was written from this revision, by this version."""
        if not file.is_file():
            return False
        kept = read_origin(file)
        return all(kept.get(name) == self.origin[name] for name in ("revision", "export_version"))

    @contextmanager
    def _writing(self, file: Path, library: str, **origin: str) -> Iterator[Path]:
        """Yield a path to write an ONNX file to; afterwards it gets its origin and, with its weights, its place."""
        import onnx

        temporary = file.with_name(f".{file.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process
        temporary.mkdir(parents=True)
        try:
            yield temporary / file.name
            model = onnx.load(str(temporary / file.name), load_external_data=False)
            properties = self.origin | {library: version(library)} | origin
            onnx.helper.set_model_props(model, properties)
            onnx.save(model, str(temporary / file.name))
            for written in (file.name + WEIGHTS, file.name):  # the graph last, which makes it complete
                if (temporary / written).is_file():
                    os.replace(temporary / written, file.with_name(written))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self.written.append(file)


def read_origin(file: Path) -> dict[str, str]:
    """What a file says about its origin; empty if it is damaged, so that it is written again."""
    import onnx
    from google.protobuf.message import DecodeError
    from safetensors import SafetensorError, safe_open

    with suppress(DecodeError, SafetensorError):
        if file.suffix == ".safetensors":
            with safe_open(file, framework="numpy") as opened:
                return dict(opened.metadata())
        model = onnx.load(str(file), load_external_data=False)
        return {entry.key: entry.value for entry in model.metadata_props}
    return {}
