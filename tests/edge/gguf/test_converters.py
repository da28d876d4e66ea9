"""The same names, types, shapes and values as llama.cpp's own converters write for MiniCPM-V 2.5.

converters.json is what they wrote, once, for the model of `save_counted_model`: convert_hf_to_gguf.py for its language
model, as a Llama with the same tokenizer, and legacy-models/minicpmv-convert-image-encoder-to-gguf.py for the rest,
both of the llama.cpp in llama-cpp-python 0.3.36. Its widths fit, so nothing is padded.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edge.gguf.export import write_language, write_mmproj
from edge.gguf.tokenizer import chat_template
from edge.policy import Policy
from tests.support.tiny import save_tiny_model

pytestmark = pytest.mark.slow

CONVERTED = json.loads(Path(__file__).with_name("converters.json").read_text(encoding="utf-8"))
# Ours differ on purpose: one row of a table that llama.cpp wants and does not read, and positions for square slices.
OURS_DIFFER = {"resampler.pos_embed_k", "v.position_embd.weight"}

EXPECTED_MORE: dict[str, set[str]] = {  # the end of a turn, and that the template writes the first token
    "language": {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.add_bos_token"},
    "mmproj": set(),
}


def save_counted_model(folder: Path) -> None:
    """2.5 at width 256 with a position table of 70 x 70; its weights are counted, and exact in float16."""
    save_tiny_model(folder, width=256, table_side=70)
    tensors = load_file(folder / "model.safetensors")
    for index, (name, tensor) in enumerate(sorted(tensors.items())):
        counted = (torch.arange(tensor.numel()) * 37 + index) % 251 - 125
        tensors[name] = (counted.float() / 256).reshape(tensor.shape)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def describe(file: Path) -> dict[str, Any]:
    """Metadata, of a long list its hash; tensors by name: type, shape, hash of the values."""
    import gguf

    def short(value: Any) -> Any:
        long = isinstance(value, list) and len(value) > 10
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16] if long else value

    reader = gguf.GGUFReader(file)
    return {
        "metadata": {name: short(field.contents()) for name, field in reader.fields.items()},
        "tensors": {
            tensor.name: [
                tensor.tensor_type.name,
                [int(length) for length in tensor.shape],
                hashlib.sha256(tensor.data.tobytes()).hexdigest()[:16],
            ]
            for tensor in reader.tensors
        },
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("counted")
    save_counted_model(folder / "model")
    policy = Policy(folder / "model", "x", "0")
    return {"language": describe(write_language(policy, folder)), "mmproj": describe(write_mmproj(policy, folder))}


@pytest.mark.parametrize("part", ["language", "mmproj"])
def test_tensors_are_those_of_the_converters(part: str, written: dict[str, Any]) -> None:
    ours, theirs = written[part]["tensors"], CONVERTED[part]["tensors"]
    assert ours.keys() == theirs.keys()
    differing = {name for name in ours if ours[name] != theirs[name]}
    assert differing == (OURS_DIFFER if part == "mmproj" else set())
    if part == "mmproj":
        assert ours["v.position_embd.weight"][:2] == theirs["v.position_embd.weight"][:2] == ["F16", [64, 4900]]
        assert ours["resampler.pos_embed_k"][:2] == ["F32", [256, 1]]
        assert theirs["resampler.pos_embed_k"][:2] == ["F32", [256, 4900]]


@pytest.mark.parametrize("part", ["language", "mmproj"])
def test_metadata_has_what_the_converters_write(part: str, written: dict[str, Any]) -> None:
    ours, theirs = written[part]["metadata"], CONVERTED[part]["metadata"]
    free = ("general.", "GGUF.")  # names, sizes and versions
    wanted = {name: value for name, value in theirs.items() if not name.startswith(free)}
    if template := wanted.get("tokenizer.chat_template"):
        wanted["tokenizer.chat_template"] = chat_template(template)
    assert {name: ours.get(name) for name in wanted} == wanted
    added = {name for name in ours.keys() - theirs.keys() if not name.startswith((*free, "rlaif."))}
    assert added == EXPECTED_MORE[part]
