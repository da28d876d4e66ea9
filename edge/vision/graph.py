"""The vision encoder and the resampler as an ONNX graph, written node by node.

No exporter traces the model: the graph has no shape arithmetic that an NPU would refuse, its weights keep their
released names, and it takes seconds at any size. `tests/edge/vision/test_graph.py` holds it to the model.

- `dynamic_graph`: pixel_values [S, 3, side, P * side] and tgt_sizes [S, 2] (int64) -> features [S, Q, D], for CPUs.
  Positions and mask are computed in the graph.
- `static_graph`: one slice of a fixed number of patches, for NPUs. patches [1, P, 3 * side * side], positions
  [1, P, D_vision], key_positions [1, P, D] and mask [1, 1, 1, P], all float32, come from the host (`edge.vision.host`),
  so that the graph has no integers.

A linear layer is a product with the transposed weight, which is stored so, under the released name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from edge.vision.shape import POSITION_TABLE, VisionShape

OPSET = 21  # the first whose QuantizeLinear has 16 bits
IR_VERSION = 10
Tensors = Mapping[str, np.ndarray]  # by released name
MOST_INLINE = 1_500_000_000  # bytes of weights in the file of a graph, which ends at 2 GB
SMALL = 1024  # bytes; such weights stay in it: sizes, which readers of the graph need, and biases
WEIGHTS = ".data"  # what the name of the file beside it ends with
MASKED = -1e9  # added to a score in float32: its weight is exactly 0


class GraphBuilder:
    """Nodes and weights of a graph; each node has one output, which is named like the node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; returns its output."""
        from onnx import helper

        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def weight(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        self.weights[name] = np.ascontiguousarray(values, dtype=dtype)
        return name

    def shape(self, *sizes: int) -> str:
        """A constant of Reshape, Unsqueeze or an axis: 0 keeps a size, -1 is what remains."""
        return self.weight("shape_" + "_".join(str(size).replace("-", "m") for size in sizes), sizes, np.int64)

    def linear(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        """weight: [out, in], as released."""
        product = self.add("MatMul", x, self.weight(f"{name}.weight", weight.T))
        return product if bias is None else self.add("Add", product, self.weight(f"{name}.bias", bias))

    def norm(self, x: str, name: str, tensors: Tensors, eps: float) -> str:
        scale, bias = (self.weight(f"{name}.{part}", tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=eps)

    def split_heads(self, x: str, heads: int, width: int) -> str:
        """[S, P, heads * width] -> [S, heads, P, width]."""
        return self.add("Transpose", self.add("Reshape", x, self.shape(0, -1, heads, width)), perm=[0, 2, 1, 3])

    def attend(self, query: str, key: str, value: str, mask: str) -> str:
        """query [S or 1, heads, Q, d], already scaled, key and value [S, heads, P, d] -> [S, Q, heads * d]."""
        scores = self.add("MatMul", query, self.add("Transpose", key, perm=[0, 1, 3, 2]))
        weights = self.add("Softmax", self.add("Add", scores, mask), axis=-1)
        mixed = self.add("Transpose", self.add("MatMul", weights, value), perm=[0, 2, 1, 3])
        return self.add("Reshape", mixed, self.shape(0, 0, -1))

    def finish(self, inputs: dict[str, tuple[Any, list[Any]]], output: str, shape: list[Any]) -> "Graph":
        """The graph with this output, called features.

        inputs: name -> (numpy type, sizes; a text stands for one that varies).
        """
        assert self.nodes[-1].output[0] == output
        self.nodes[-1].output[0] = "features"
        return Graph(self.nodes, self.weights, inputs, shape)


@dataclass(frozen=True)
class Graph:
    """A graph whose weights are in numpy until it is written, so that memory holds them once at any size."""

    nodes: list[Any]
    weights: dict[str, np.ndarray]
    inputs: dict[str, tuple[Any, list[Any]]]
    output_shape: list[Any]

    def save(self, file: Path, most_inline: int = MOST_INLINE) -> None:
        """Write it; weights of more bytes than `most_inline` go into a file beside it, whose name ends with WEIGHTS."""
        import onnx

        if sum(values.nbytes for values in self.weights.values()) <= most_inline:
            tensors = [onnx.numpy_helper.from_array(values, name) for name, values in self.weights.items()]
            onnx.save(self.model(tensors), str(file))
            return
        location, offset, tensors = file.name + WEIGHTS, 0, []
        with file.with_name(location).open("wb") as data:
            for name, values in self.weights.items():
                if values.nbytes < SMALL:
                    tensors.append(onnx.numpy_helper.from_array(values, name))
                    continue
                tensor = onnx.TensorProto(name=name, dims=values.shape, data_location=onnx.TensorProto.EXTERNAL)
                tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
                for key, value in {"location": location, "offset": offset, "length": values.nbytes}.items():
                    tensor.external_data.add(key=key, value=str(value))
                data.write(values.data)
                offset += values.nbytes
                tensors.append(tensor)
        onnx.save(self.model(tensors), str(file))

    def model(self, tensors: list[Any]) -> Any:
        """The onnx.ModelProto with these initializers."""
        from onnx import TensorProto, helper

        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), sizes)
            for name, (dtype, sizes) in self.inputs.items()
        ]
        output = helper.make_tensor_value_info("features", TensorProto.FLOAT, self.output_shape)
        graph = helper.make_graph(self.nodes, "minicpmv_vision", inputs, [output], tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def static_graph(shape: VisionShape, tensors: Tensors, length: int) -> Graph:
    """The graph of one slice of `length` patches."""
    graph = GraphBuilder()
    output = _features(graph, shape, tensors, "patches", "positions", "key_positions", "mask")
    inputs = {
        "patches": (np.float32, [1, length, shape.patch_values]),
        "positions": (np.float32, [1, length, shape.width]),
        "key_positions": (np.float32, [1, length, shape.out_width]),
        "mask": (np.float32, [1, 1, 1, length]),
    }
    return graph.finish(inputs, output, [1, shape.queries, shape.out_width])


def dynamic_graph(shape: VisionShape, tensors: Tensors) -> Graph:
    """The graph of any number of slices of any length."""
    graph = GraphBuilder()
    tiles = graph.add("Reshape", "pixel_values", graph.shape(0, 3, shape.patch, -1, shape.patch))
    tiles = graph.add("Transpose", tiles, perm=[0, 3, 1, 2, 4])  # [S, P, 3, side, side]
    patches = graph.add("Reshape", tiles, graph.shape(0, 0, -1))
    zero, one = graph.weight("zero", 0, np.int64), graph.weight("one", 1, np.int64)
    count = graph.add("Squeeze", graph.add("Shape", patches, start=1, end=2))
    index = graph.add("Range", zero, count, one)  # [P]
    rows = graph.add("Gather", "tgt_sizes", graph.shape(0), axis=1)  # [S, 1]
    columns = graph.add("Gather", "tgt_sizes", graph.shape(1), axis=1)
    valid = graph.add("Less", index, graph.add("Mul", rows, columns))  # [S, P]
    masked = graph.add("Where", valid, graph.weight("unmasked", 0.0), graph.weight("masked", MASKED))
    mask = graph.add("Unsqueeze", masked, graph.shape(1, 2))  # [S, 1, 1, P]
    row, column = graph.add("Div", index, columns), graph.add("Mod", index, columns)
    side = graph.weight("table_side", shape.table_side, np.int64)
    if shape.positions == "bucket_1d":
        ids = graph.add("Div", graph.add("Mul", index, side), graph.add("Mul", rows, columns))
    else:
        bucket_row = graph.add("Div", graph.add("Mul", row, side), rows)
        bucket_column = graph.add("Div", graph.add("Mul", column, side), columns)
        ids = graph.add("Add", graph.add("Mul", bucket_row, side), bucket_column)
    table = graph.weight(POSITION_TABLE, tensors[POSITION_TABLE])
    positions = graph.add("Gather", table, graph.add("Where", valid, ids, zero))
    quarter = shape.out_width // 4
    frequencies = graph.weight("frequencies", 10000.0 ** (-np.arange(quarter, dtype=np.float32) / quarter))
    waves = []
    for place in (column, row):
        numbers = graph.add("Unsqueeze", graph.add("Cast", place, to=1), graph.shape(-1))
        angles = graph.add("Mul", numbers, frequencies)  # [S, P, D / 4]
        waves += [graph.add("Sin", angles), graph.add("Cos", angles)]
    key_positions = graph.add("Concat", *waves, axis=-1)
    output = _features(graph, shape, tensors, patches, positions, key_positions, mask)
    inputs = {
        "pixel_values": (np.float32, ["slices", 3, shape.patch, "patches_times_side"]),
        "tgt_sizes": (np.int64, ["slices", 2]),
    }
    return graph.finish(inputs, output, ["slices", shape.queries, shape.out_width])


def _features(
    graph: GraphBuilder, shape: VisionShape, tensors: Tensors, patches: str, positions: str, keys: str, mask: str
) -> str:
    """The vision encoder, then the resampler; the inputs as in `static_graph`, for any number of slices."""
    name = "vpm.embeddings.patch_embedding"
    x = graph.linear(
        patches, name, tensors[f"{name}.weight"].reshape(shape.width, -1), tensors[f"{name}.bias"]
    )  # a convolution whose kernels do not overlap
    x = graph.add("Add", x, positions)
    for layer in range(shape.layers):
        x = _layer(graph, shape, tensors, x, f"vpm.encoder.layers.{layer}", mask)
    x = graph.norm(x, "vpm.post_layernorm", tensors, shape.eps)
    return _resample(graph, shape, tensors, x, keys, mask)


def _layer(graph: GraphBuilder, shape: VisionShape, tensors: Tensors, x: str, name: str, mask: str) -> str:
    width = shape.width // shape.heads

    def linear(of: str, part: str) -> str:
        return graph.linear(of, f"{name}.{part}", tensors[f"{name}.{part}.weight"], tensors[f"{name}.{part}.bias"])

    normed = graph.norm(x, f"{name}.layer_norm1", tensors, shape.eps)
    query, key, value = (linear(normed, f"self_attn.{part}_proj") for part in "qkv")
    query = graph.add("Mul", query, graph.weight(f"scale_{width}", 1 / sqrt(width)))
    query, key, value = (graph.split_heads(part, shape.heads, width) for part in (query, key, value))
    x = graph.add("Add", x, linear(graph.attend(query, key, value, mask), "self_attn.out_proj"))
    hidden = linear(graph.norm(x, f"{name}.layer_norm2", tensors, shape.eps), "mlp.fc1")
    return graph.add("Add", x, linear(graph.add("Gelu", hidden, approximate="tanh"), "mlp.fc2"))


def _resample(graph: GraphBuilder, shape: VisionShape, tensors: Tensors, x: str, keys: str, mask: str) -> str:
    width, heads = shape.out_width // shape.out_heads, shape.out_heads
    weights = np.split(tensors["resampler.attn.in_proj_weight"], 3)
    biases = np.split(tensors["resampler.attn.in_proj_bias"], 3)
    normed = _normalize(
        tensors["resampler.query"], tensors["resampler.ln_q.weight"], tensors["resampler.ln_q.bias"], shape.out_eps
    )
    query = (normed @ weights[0].T + biases[0]) / sqrt(width)  # the same for every slice
    query = query.reshape(1, shape.queries, heads, width).transpose(0, 2, 1, 3)
    values = graph.norm(
        graph.linear(x, "resampler.kv_proj", tensors["resampler.kv_proj.weight"]),
        "resampler.ln_kv",
        tensors,
        shape.out_eps,
    )
    key = graph.linear(graph.add("Add", values, keys), "resampler.attn.key", weights[1], biases[1])
    value = graph.linear(values, "resampler.attn.value", weights[2], biases[2])
    pooled = graph.attend(
        graph.weight("resampler.query", query),
        graph.split_heads(key, heads, width),
        graph.split_heads(value, heads, width),
        mask,
    )
    name = "resampler.attn.out_proj"
    pooled = graph.linear(pooled, name, tensors[f"{name}.weight"], tensors[f"{name}.bias"])
    pooled = graph.norm(pooled, "resampler.ln_post", tensors, shape.out_eps)
    return graph.linear(pooled, "resampler.proj", tensors["resampler.proj"].T)


def _normalize(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """Layer normalization over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    normed: np.ndarray = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias
    return normed
