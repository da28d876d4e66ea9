"""Every use of vLLM's private or unstable API, with its reason. Tested with vLLM 0.32.0.

Most of it is for the engine in `rlaif.inference`; it is here because `model` imports no other package.
When vLLM moves, `tests/model/test_vllm_private.py` says what broke.

`model.vllm.model` also subclasses vLLM's MiniCPM-V classes (`vllm.model_executor.models.minicpmv`), as vLLM documents
for custom models; that it computes what training does is tested in `tests/model/test_modeling.py`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput

TESTED_VERSION = "0.32.0"


def finished_requests(llm: "LLM") -> "Iterator[RequestOutput]":
    """Advance all running requests by one token; the requests that finished thereby.

    Private: `LLM.llm_engine`. `LLM.generate` and `LLM.wait_for_completion` return only when every request is finished,
    so that all requests would have to be prepared, images decoded, before the first one runs.
    """
    from vllm import RequestOutput

    for output in llm.llm_engine.step():
        if isinstance(output, RequestOutput) and output.finished:
            yield output


def request_number(request_id: str) -> int:
    """The number of a request, from its id in an output or from the id that `LLM.enqueue` returned.

    Private: LLM numbers its requests; the id that `LLM.enqueue` returns is the number with random characters after it.
    """
    return int(request_id.partition("-")[0])


def abort_request(llm: "LLM", number: int) -> None:
    """Take a request back that is not finished.

    Private: `LLM.llm_engine`. LLM has no method for it.
    """
    llm.llm_engine.abort_request([str(number)])


def forget_prompts(llm: "LLM") -> None:
    """Empty the caches of prefixes and encoded images.

    Private: `LLM.llm_engine`. LLM has a method for the prefixes only, and images would still be reused.
    """
    llm.reset_prefix_cache()
    llm.llm_engine.reset_encoder_cache()


def shut_down(llm: "LLM") -> None:
    """End vLLM's processes and free its memory.

    Private: `LLM.llm_engine.engine_core`. LLM has no method for it, and without it the GPU's memory stays occupied.
    """
    llm.llm_engine.engine_core.shutdown()


def is_prompt_too_long(error: Exception) -> bool:
    """Whether vLLM rejects a request because its prompt does not fit `max_model_len`.

    Private: the names of the parameters, for a prompt that is too long as text or as tokens, and the message, for one
    that is too long with its image. The class of the error is that of every other invalid request.
    """
    from vllm.exceptions import VLLMValidationError

    return isinstance(error, VLLMValidationError) and (
        error.parameter in ("input_text", "input_tokens") or "maximum model length" in str(error)
    )


def is_image_rejected(error: Exception) -> bool:
    """Whether the model's own processor raised an error about an image (Qwen2-VL rejects extreme shapes).

    Private: the message. vLLM wraps whatever a processor raises in a plain ValueError.
    """
    return isinstance(error, ValueError) and "Failed to apply" in str(error)


def template_variables(llm: "LLM") -> set[str]:
    """The variables of the model's chat template that `chat_template_kwargs` can set.

    Private: how vLLM finds the template, and which of its names are variables. vLLM ignores all others silently.
    """
    from vllm.renderers.hf import _resolve_chat_template_kwargs, resolve_chat_template

    tokenizer: Any = llm.get_tokenizer()
    template = resolve_chat_template(tokenizer, None, None, model_config=llm.model_config)
    filled = {"messages", "add_generation_prompt", "raise_exception", "strftime_now", *tokenizer.special_tokens_map}
    return set(_resolve_chat_template_kwargs(template)) - filled if isinstance(template, str) else set()


def answer_whether_capturing() -> None:
    """Let `torch.cuda.is_current_stream_capturing` return False where torch is built without CUDA.

    A patch of torch: vLLM's resampler calls it on CPU too, where it raises instead of returning False.
    """
    if not torch.backends.cuda.is_built():
        torch.cuda.is_current_stream_capturing = lambda: False


ROWS_FOR_TORCH = 64
LARGEST_KEPT = 32 * 2**20  # bytes of a layer's weights, which are in memory twice


def multiply_many_rows_by_torch() -> None:
    """Let linear layers in float32 multiply by torch where there are many rows, on a CPU without AVX-512.

    Private: `dispatch_cpu_unquantized_gemm`, which gives a layer its `cpu_linear`, always oneDNN with packed weights.
    That is faster below ROWS_FOR_TORCH rows, and a tenth slower than torch above. Measured on AVX2 alone, so other CPUs
    stay as they are, as do large layers.
    """
    from vllm.model_executor.layers import utils

    dispatch = utils.dispatch_cpu_unquantized_gemm
    slow = not torch.backends.cuda.is_built() and torch.backends.cpu.get_cpu_capability() == "AVX2"
    if not slow or dispatch.__module__ == __name__:
        return

    def dispatch_by_rows(layer: Any, remove_weight: bool) -> None:
        weight: torch.Tensor = layer.weight.detach()
        dispatch(layer, remove_weight)
        if weight.dim() != 2 or weight.is_meta or weight.dtype != torch.float32 or weight.nbytes > LARGEST_KEPT:
            return
        packed = layer.cpu_linear

        def multiply(x: torch.Tensor, given: torch.Tensor, bias: torch.Tensor | None) -> Any:
            few = x.shape[:-1].numel() < ROWS_FOR_TORCH
            return packed(x, given, bias) if few else nn.functional.linear(x, weight, bias)

        layer.cpu_linear = multiply

    utils.dispatch_cpu_unquantized_gemm = dispatch_by_rows


def register_tokenizer_mode(mode: str, module: str, class_name: str) -> None:
    """Let vLLM load a tokenizer with a class of ours where `tokenizer_mode` is `mode`, as its option documents for
    plugins.

    Private: the two registries, and the renderer of tokenizers of transformers.
    """
    from vllm.renderers.registry import RENDERER_REGISTRY
    from vllm.tokenizers.registry import TokenizerRegistry

    if mode not in TokenizerRegistry.tokenizers:  # it warns about a second time
        TokenizerRegistry.register(mode, module, class_name)
        RENDERER_REGISTRY.register(mode, "vllm.renderers.hf", "HfRenderer")


def replace_vision_embeddings(served: Any, embeddings: nn.Module) -> None:
    """Give vLLM's MiniCPM-V other patch and position embeddings, before it loads the weights.

    Private: the attribute path `vpm.embeddings`, which is also the name of the weights. The vision encoder is built
    without a way to choose the class of its embeddings.
    """
    replaced = type(served.vpm.embeddings)
    assert isinstance(embeddings, replaced), f"vLLM's embeddings are {replaced}"
    served.vpm.embeddings = embeddings
