"""GGUF files: written one tensor at a time under a temporary name, read by their header.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The package `gguf` is used here alone.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlaif.errors import InputError, ModelError
from rlaif.storage.files import atomic_write

if TYPE_CHECKING:
    import torch

HALF_LIMIT = 65504.0  # the largest float16
TEXT_TYPE = 8  # GGUF_TYPE_STRING
HEAD_BYTES = 2**26  # more than the metadata of any vocabulary
Shape = tuple[int, ...]
Value = str | bool | int | float | np.int32 | Sequence[Any]


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file, read when it is written. Shapes are those of torch; GGUF stores them reversed."""

    name: str
    shape: Shape
    half: bool  # float16, else float32
    read: "Callable[[], torch.Tensor]"

    def array(self) -> np.ndarray:
        """Its values in the type of the file. Errors: ModelError: a value does not fit into float16."""
        values = self.read()
        assert tuple(values.shape) == self.shape, f"{self.name}: {tuple(values.shape)} instead of {self.shape}"
        if not self.half:
            return values.float().contiguous().numpy()
        if not values.abs().max() <= HALF_LIMIT:  # also NaN
            raise ModelError(
                f"{self.name} has a value of {values.abs().max():.3g}, expected at most {HALF_LIMIT:g}, where float16 "
                "ends; export another policy"
            )
        return values.half().contiguous().numpy()


@dataclass(frozen=True)
class StoredTensor:
    """What the header says about a tensor; type: such as F16 or Q4_K."""

    shape: Shape
    type: str
    size: int  # bytes


@dataclass(frozen=True)
class Header:
    """Metadata and tensors of a GGUF file, by name."""

    metadata: dict[str, Any]
    tensors: dict[str, StoredTensor]


def write_file(path: Path, architecture: str, metadata: dict[str, Value], tensors: Sequence[Tensor]) -> None:
    """Write a GGUF file; it appears under its name when it is complete.

    An int is stored as uint32, a list as an array, an np.int32 as it is. Errors: ModelError, see `Tensor.array`.
    """
    import gguf

    with atomic_write(path) as temporary:
        writer = gguf.GGUFWriter(temporary, architecture)
        for key, value in metadata.items():
            _add(writer, key, value)
        for tensor in tensors:
            dtype = np.dtype(np.float16 if tensor.half else np.float32)
            writer.add_tensor_info(tensor.name, tensor.shape, dtype, prod(tensor.shape) * dtype.itemsize)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for tensor in tensors:
                writer.write_tensor_data(tensor.array())
        finally:
            writer.close()


def _add(writer: Any, key: str, value: Value) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, np.int32):
        writer.add_int32(key, int(value))
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def read_text(path: Path, key: str) -> str | None:
    """The value of a text in the metadata of a GGUF file; None where there is no such key.

    Its bytes are looked up, because `GGUFReader` takes seconds for the vocabulary of a released model.
    """
    name = key.encode()
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    start = head.find(struct.pack("<Q", len(name)) + name + struct.pack("<I", TEXT_TYPE))
    if start < 0:
        return None
    start += 8 + len(name) + 4
    (length,) = struct.unpack_from("<Q", head, start)
    return head[start + 8 : start + 8 + length].decode("utf-8", "replace")


def read_header(path: Path) -> Header:
    """Metadata and tensors of a GGUF file. Errors: InputError: it is missing, not GGUF, or cut short."""
    import gguf

    again = f"make export-edge RUN={path.parent.parent}"
    if not path.is_file():
        raise InputError(f"{path} is missing, expected a GGUF file; run `{again}`")
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} is damaged or cut short ({reason}), expected a whole GGUF file; delete it and run `{again}`"
        ) from error
    return Header(
        {name: field.contents() for name, field in reader.fields.items()},
        {
            tensor.name: StoredTensor(
                tuple(int(length) for length in reversed(tensor.shape)), tensor.tensor_type.name, int(tensor.n_bytes)
            )
            for tensor in reader.tensors
        },
    )
