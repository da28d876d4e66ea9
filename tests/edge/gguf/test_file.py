"""GGUF files: what is written is read back, and a damaged file is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edge.gguf.file import Tensor, Value, read_header, write_file
from rlaif.errors import InputError, ModelError
from tests.support.edge.llama_cpp_graph import read_gguf

METADATA: dict[str, Value] = {
    "a.flag": True, "a.count": 3, "a.signed": np.int32(-2), "a.share": 0.5, "a.text": "x", "a.list": ["p", "q"],
    "a.numbers": [1, 2],
}  # fmt: skip
WIDE = torch.arange(12.0).reshape(3, 4)


def write(file: Path) -> None:
    tensors = [Tensor("wide", (3, 4), True, WIDE.clone), Tensor("vector", (2,), False, torch.tensor([0.1, 0.2]).clone)]
    write_file(file, "llama", METADATA, tensors)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write(tmp_path / "a.gguf")
    header = read_header(tmp_path / "a.gguf")
    assert {key: header.metadata[key] for key in METADATA} == METADATA
    assert header.metadata["general.architecture"] == "llama"
    assert {name: (stored.shape, stored.type, stored.size) for name, stored in header.tensors.items()} == {
        "wide": ((3, 4), "F16", 24),
        "vector": ((2,), "F32", 8),
    }
    _, tensors = read_gguf(tmp_path / "a.gguf")
    assert torch.equal(tensors["wide"], WIDE.double())
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]


@pytest.mark.parametrize("kept", [0, 3, 40, 200, -30])
def test_a_file_cut_short_is_refused(kept: int, tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    write(file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"a.gguf is damaged or cut short .*delete it and run `make"):
        read_header(file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"something else" * 100)
    with pytest.raises(InputError, match=r"a.gguf is damaged or cut short"):
        read_header(tmp_path / "a.gguf")
    with pytest.raises(InputError, match=r"b.gguf is missing, expected a GGUF file; run `make export-edge RUN="):
        read_header(tmp_path / "b.gguf")


@pytest.mark.parametrize("value", [1e5, float("inf"), float("nan")])
def test_values_beyond_float16_are_refused_and_leave_the_old_file(value: float, tmp_path: Path) -> None:
    write(tmp_path / "a.gguf")
    before = (tmp_path / "a.gguf").read_bytes()
    large = Tensor("large", (1, 2), True, torch.tensor([[0.0, value]]).clone)
    with pytest.raises(ModelError, match=r"large has a value of .*, expected at most 65504, where float16 ends"):
        write_file(tmp_path / "a.gguf", "llama", {}, [large])
    assert (tmp_path / "a.gguf").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]
