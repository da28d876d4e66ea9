"""Half precision on a CPU that has to emulate it."""

import pytest
import torch

from rlaif.config import ModelSection
from rlaif.inference.vllm_engine import checkpoint_options, precision_options
from tests.support import ROOT


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU without AVX-512 and no GPU."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)


def section(dtype: str, quantization: str | None = None) -> ModelSection:
    return ModelSection.model_validate({"model": "m", "dtype": dtype, "quantization": quantization})


@pytest.mark.usefixtures("slow")
def test_our_model_as_stored_computes_in_float32_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert precision_options(section("auto"), is_ours=True) == {"dtype": "float32"}
    shipped = checkpoint_options(ModelSection(model=str(ROOT / "assets/labeler")))
    assert shipped["dtype"] == "float32"
    first, second = capsys.readouterr().err.splitlines()
    reason = "this CPU has no AVX-512 and is several times slower in half precision"
    assert first == f"m: dtype is auto; computes in float32, as {reason}"
    assert second.startswith(f"{ROOT}/assets/labeler: dtype is auto; computes in float32")


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(("dtype", "is_ours"), [("bfloat16", True), ("float16", False), ("auto", False)])
def test_what_is_set_and_other_models_stay_and_the_better_dtype_is_said(
    capsys: pytest.CaptureFixture[str], dtype: str, is_ours: bool
) -> None:
    assert precision_options(section(dtype), is_ours) == {}
    message = capsys.readouterr().err
    assert f"dtype is {dtype}; this CPU has no AVX-512" in message and "dtype=float32" in message


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("model", [section("float32"), section("auto", "fp8_per_tensor")])
def test_float32_and_quantized_weights_are_left_alone(capsys: pytest.CaptureFixture[str], model: ModelSection) -> None:
    assert precision_options(model, is_ours=True) == {} and capsys.readouterr().err == ""


@pytest.mark.parametrize(("capability", "cuda"), [("AVX512", False), ("DEFAULT", False), ("AVX2", True)])
def test_other_machines_are_left_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, capability: str, cuda: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: cuda)
    assert precision_options(section("bfloat16"), is_ours=True) == {} and capsys.readouterr().err == ""
