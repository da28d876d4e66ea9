"""Shapes of models: those that are built in are the published ones, and others come from their config.json."""

from pathlib import Path

import pytest

from rlaif.config import EngineSection, ModelSection
from rlaif.errors import ModelError
from rlaif.memory.serving import GIB, serving_memory
from rlaif.memory.shapes import shape_of
from tests.support import ROOT

# the parameters that the published checkpoints have (total_size of their index over 2 bytes)
PARAMETERS = {
    "openbmb/MiniCPM-Llama3-V-2_5": 8_537_092_336,
    "openbmb/MiniCPM-V-2_6": 8_099_175_152,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_public_models_have_the_published_number_of_parameters(name: str) -> None:
    shape = shape_of(ModelSection(model=name))
    assert shape.parameters == PARAMETERS[name]
    assert shape.source == "built-in public shapes: the model is not on this machine yet"


@pytest.mark.slow
def test_shapes_of_a_folder_come_from_its_config() -> None:
    folder = ROOT / "assets" / "policy"
    shape = shape_of(ModelSection(model=str(folder)))
    assert shape.source == f"{folder}/config.json" and 5e6 < shape.parameters < 6e6


@pytest.mark.slow
def test_a_model_out_of_reach_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(ModelError, match=r"the config.json of .* is out of reach .*download the model, or name one of"):
        shape_of(ModelSection(model=str(tmp_path)))


@pytest.mark.slow
def test_the_kv_cache_of_2_5_by_hand() -> None:
    """2 x 32 layers x 8 heads x 128 x 2 bytes = 128 KiB a token: 4,096 tokens are 512 MiB, and half of it in fp8."""
    section, engine = ModelSection(model="openbmb/MiniCPM-Llama3-V-2_5"), EngineSection(max_model_len=4096)
    needed = serving_memory(shape_of(section), section, engine, 80 * GIB)
    assert needed.sequence == 2**29 and needed.weights == 2 * 8_537_092_336
    assert needed.cache == pytest.approx(0.9 * 80 * GIB - needed.weights - needed.step - GIB)
    assert needed.sequences == int(needed.cache / 2**29)
    smaller = engine.model_copy(update={"kv_cache_dtype": "fp8"})
    assert serving_memory(shape_of(section), section, smaller, 80 * GIB).sequence == 2**28
    assert not serving_memory(shape_of(section), section, engine, 20 * GIB).fits
    halves = engine.model_copy(update={"tensor_parallel_size": 2})
    assert serving_memory(shape_of(section), section, halves, 20 * GIB).fits
    quantized = section.model_copy(update={"quantization": "fp8_per_tensor"})
    assert serving_memory(shape_of(section), quantized, engine, 80 * GIB).weights < 0.65 * needed.weights
