"""A16W8: the static graph with 16-bit activations and 8-bit weights, calibrated on slices of the run's own pictures.

Private: get_qnn_qdq_config of onnxruntime's quantization tools, which knows which types QNN's operators take. Tested
with onnxruntime 1.32.0.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge.slices import Slices
from edge.vision.host import Host

CALIBRATION_SLICES = 64
Inputs = dict[str, np.ndarray]


def quantize_graph(static: Path, target: Path, inputs: Iterable[Inputs]) -> None:
    """Write the quantized form of a static graph; the ranges of its tensors are those that `inputs` give.

    Each output channel of a linear layer has a scale of its own, which makes the error a third of that of one scale.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize
    from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config

    graph = onnx.load(str(static), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    linear = {node.input[1] for node in graph.node if node.op_type == "MatMul"} & weights
    by_channel = {"quant_type": QuantType.QInt8, "axis": 1, "symmetric": True}
    settings = get_qnn_qdq_config(
        static,
        _Reader(iter(inputs)),
        calibrate_method=CalibrationMethod.MinMax,
        activation_type=QuantType.QUInt16,
        weight_type=QuantType.QUInt8,  # the HTP takes no signed scale of a LayerNormalization
        init_overrides={name: [by_channel] for name in linear},
    )
    with _quiet():
        quantize(static, target, settings)


def calibration_inputs(host: Host, slices: Iterable[Slices], count: int = CALIBRATION_SLICES) -> Iterator[Inputs]:
    """The inputs of `count` slices, spread evenly over those of all pictures, or of all if there are fewer."""
    pairs = [pair for of_picture in slices for pair in zip(of_picture.strips, of_picture.sizes.tolist(), strict=True)]
    chosen = np.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().astype(int)
    for index in chosen:
        strip, (rows, columns) = pairs[index]
        yield host.inputs(strip, (rows, columns))


class _Reader:
    """A CalibrationDataReader of onnxruntime, by its methods."""

    def __init__(self, inputs: Iterator[Inputs]) -> None:
        self._inputs = inputs

    def get_next(self) -> Any:
        return next(self._inputs, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice to prepare a graph by an exporter's clean-up, which this one does not need."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
