"""vLLM as an Engine: in this process on CPU, in processes of its own on GPU."""

import functools
import gc
import hashlib
import importlib.util
import math
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rlaif.config import EngineSection, ModelSection
from rlaif.errors import ModelError
from rlaif.imports import gc_paused
from rlaif.inference.engine import (
    IMAGE_REFUSED,
    PROMPT_TOO_LONG,
    Completion,
    Request,
    TurnEncoder,
    is_spelling_of,
    text_by_token,
)
from rlaif.inference.image_size import scale_down
from rlaif.inference.stepped import SteppedEngine
from rlaif.text import break_special_tokens, special_tokens

if TYPE_CHECKING:
    from PIL import Image
    from vllm import CompletionOutput, RequestOutput, SamplingParams


class VllmEngine(SteppedEngine):
    """Implements `rlaif.inference.engine.Engine`. Errors: ModelError where vLLM cannot load the model."""

    def __init__(self, model: ModelSection, engine: EngineSection, seed: int) -> None:
        super().__init__(engine.max_num_seqs)
        with gc_paused():
            on_cpu = prepare_environment()
            from vllm import LLM

        try:
            options = vllm_options(model, engine, seed, on_cpu) | checkpoint_options(model)
            self._llm = LLM(model.model, **options)
        except (OSError, ValueError, RuntimeError) as error:
            reason = f"{_reason(error)}{_reduced_precision(model, engine)}"
            raise ModelError(f"vLLM cannot load the model {model.model!r}: {reason}") from error
        self._model = model.model
        self._max_pixels = model.max_pixels
        self._template_kwargs = model.chat_template_kwargs
        self._requests: dict[int, Request] = {}
        self._spellings: dict[str, tuple[int, ...]] = {}
        self._tokenizer: Any = self._llm.get_tokenizer()
        self._special = special_tokens(self._tokenizer)
        self._encoder = self._open_encoder(model)
        self._stop_token_ids = [self._encoder.end_of_turn] if self._encoder is not None else []
        if self._template_kwargs:
            self._check_template_kwargs()

    def _open_encoder(self, model: ModelSection) -> TurnEncoder | None:
        """The encoder of a model of our architecture; None for others, which use vLLM's chat entry point."""
        if self._llm.model_config.hf_config.model_type != "minicpmv":
            return None
        from model.processing import IMAGE_MARKER, MiniCPMVProcessor

        processor: MiniCPMVProcessor = MiniCPMVProcessor.from_pretrained(
            model.model, revision=model.revision or "main", trust_remote_code=False
        )
        marker = self._tokenizer.encode(IMAGE_MARKER, add_special_tokens=False)
        ids = processor.encode_turn("", has_image=True)
        # Otherwise vLLM searches the decoded text for the marker, and encodes all of it again.
        assert any(ids[i : i + len(marker)] == marker for i in range(len(ids))), (
            f"a turn does not contain the tokens of {IMAGE_MARKER} as vLLM encodes it"
        )
        return processor

    def _check_template_kwargs(self) -> None:
        """Errors: ModelError for a variable that the chat template does not have, which vLLM ignores silently."""
        from model.vllm.private import template_variables

        if self._encoder is not None:
            self.close()
            raise ModelError(
                f"chat_template_kwargs are set for {self._model}, expected none: prompts of MiniCPM-V 2.5 and 2.6 are "
                "built from tokens, without a chat template; remove them"
            )
        known = template_variables(self._llm)
        if unknown := sorted(set(self._template_kwargs) - known):
            self.close()
            raise ModelError(
                f"the chat template of {self._model} has no variable {unknown[0]!r}, only: "
                f"{', '.join(sorted(known))}; correct chat_template_kwargs"
            )

    def _start(self, request: Request) -> int | str:
        from vllm.exceptions import VLLMError

        from model.vllm.private import is_image_rejected, is_prompt_too_long, request_number

        image, image_id = _decode(request.image, self._max_pixels) if request.image is not None else (None, None)
        params = self._sampling_params(request)
        try:
            if self._encoder is not None:
                prompt: Any = {"prompt_token_ids": self._encoder.encode_turn(request.text, has_image=image is not None)}
                if image is not None:
                    prompt |= {"multi_modal_data": {"image": [image]}, "multi_modal_uuids": {"image": [image_id]}}
                (request_id,) = self._llm.enqueue(prompt, params, use_tqdm=False)
            else:
                content: list[dict[str, Any]] = [
                    {"type": "text", "text": break_special_tokens(request.text, self._special)}
                ]
                if image is not None:
                    content.insert(0, {"type": "image_pil", "image_pil": image, "uuid": image_id})
                messages: Any = [{"role": "user", "content": content}]
                (request_id,) = self._llm.enqueue_chat(
                    messages, params, use_tqdm=False, chat_template_kwargs=self._template_kwargs or None
                )
        except (ValueError, VLLMError) as error:
            if is_prompt_too_long(error):
                return PROMPT_TOO_LONG
            if image is not None and is_image_rejected(error):
                return IMAGE_REFUSED
            raise
        number = request_number(request_id)
        self._requests[number] = request
        return number

    def _step(self) -> Iterator[tuple[int, list[Completion]]]:
        from model.vllm.private import finished_requests, request_number

        for output in finished_requests(self._llm):
            number = request_number(output.request_id)
            request = self._requests.pop(number)
            yield number, [self._completion(request, output, answer) for answer in output.outputs]

    def _abort(self, number: int) -> None:
        from model.vllm.private import abort_request

        if self._requests.pop(number, None) is not None:
            abort_request(self._llm, number)

    def _sampling_params(self, request: Request) -> "SamplingParams":
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        return SamplingParams(
            n=request.n,
            seed=request.seed,
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_tokens,
            stop_token_ids=self._stop_token_ids,
            structured_outputs=StructuredOutputsParams(json=request.json_schema) if request.json_schema else None,
            logprobs=0 if request.token_logprobs else None,  # 0: of the sampled token alone
            logprob_token_ids=[token for word in request.first_words for token in self.spellings(word)] or None,
        )

    def spellings(self, word: str) -> tuple[int, ...]:
        """Ids of all vocabulary entries that are spellings of `word`. Errors: ModelError where there are none."""
        if word not in self._spellings:
            ids = sorted(self._tokenizer.get_vocab().values())
            texts = self._tokenizer.batch_decode([[token_id] for token_id in ids])
            self._spellings[word] = tuple(
                token_id for token_id, text in zip(ids, texts, strict=True) if is_spelling_of(text, word)
            )
        if not self._spellings[word]:
            first = self._tokenizer.decode(self._tokenizer.encode(word, add_special_tokens=False)[:1]).strip()
            raise ModelError(
                f"the vocabulary of {self._model} has no token {word!r}, which begins with the token {first!r}; set "
                "feedback.answers to words that are single tokens, or to that beginning if no other answer has it, or "
                "use another model"
            )
        return self._spellings[word]

    def _completion(self, request: Request, output: "RequestOutput", answer: "CompletionOutput") -> Completion:
        first_words = tokens = None
        if request.first_words:
            first: Any = answer.logprobs and answer.logprobs[0]
            first_words = {
                word: sum(math.exp(first[token].logprob) for token in self.spellings(word))
                for word in request.first_words
            }
        if request.token_logprobs:
            assert answer.logprobs is not None
            positions: Any = zip(answer.token_ids, answer.logprobs, strict=True)
            logprobs = [position[token] for token, position in positions]
            tokens = text_by_token(answer.text, [(item.decoded_token or "", item.logprob) for item in logprobs])
        assert answer.finish_reason is not None, "the request is finished"
        return Completion(
            answer.text,
            len(answer.token_ids),
            answer.finish_reason,
            first_words,
            tokens,
            prompt_tokens=len(output.prompt_token_ids or ()),
        )

    def close(self) -> None:
        """See Engine."""
        from model.vllm.private import shut_down

        shut_down(self._llm)
        del self._llm
        gc.collect()


def vllm_options(model: ModelSection, engine: EngineSection, seed: int, on_cpu: bool) -> dict[str, Any]:
    """The arguments with which vLLM loads a model, here and in `rlaif.inference.serve`."""
    options: dict[str, Any] = {
        "revision": model.revision,
        "tokenizer_revision": model.revision,
        "trust_remote_code": False,
        "load_format": "safetensors",  # no pickles
        "dtype": model.dtype,
        "quantization": model.quantization,
        "kv_cache_dtype": engine.kv_cache_dtype,
        "mm_processor_cache_gb": engine.mm_processor_cache_gb,
        "seed": seed,
        "max_model_len": engine.max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "max_num_batched_tokens": engine.max_num_batched_tokens,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "enforce_eager": engine.enforce_eager or on_cpu,
        "enable_prefix_caching": engine.prefix_caching,
        "limit_mm_per_prompt": {"image": 1, "video": 0, "audio": 0},
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "use_tqdm_on_load": False,
    }
    if on_cpu:  # blocks of 16 are not supported there, and the default of 128 wastes the prefix cache
        options |= {"block_size": 32, "kv_cache_memory_bytes": engine.kv_cache_gib * 2**30}
        # with chunked prefill, a seeded request whose prompt is split fails: "CPU Generator does not use offset"
        options |= {"enable_chunked_prefill": False}
    return options


def checkpoint_options(model: ModelSection) -> dict[str, str]:
    """The options with which vLLM loads MiniCPM-V as we do. Errors: OSError: no config.json."""
    from transformers import PreTrainedConfig

    from model.vllm.plugin import TOKENIZER_MODE

    config, _ = PreTrainedConfig.get_config_dict(model.model, revision=model.revision)
    if not config:
        raise OSError(f"{model.model} has no config.json")
    is_ours = config.get("model_type") == "minicpmv"
    return ({"tokenizer_mode": TOKENIZER_MODE} if is_ours else {}) | precision_options(model, is_ours)


def precision_options(model: ModelSection, is_ours: bool) -> dict[str, str]:
    """The precision of a model on a CPU without AVX-512, which emulates half precision and is several times slower than
    in float32: MiniCPM-V with `dtype: auto` computes in float32 there, which changes none of its weights.

    Another architecture may need half precision, and a dtype that is set stays. Either way it is said.
    """
    import torch

    slow = not torch.backends.cuda.is_built() and torch.backends.cpu.get_cpu_capability() == "AVX2"
    if not slow or model.dtype == "float32" or model.quantization is not None:
        return {}
    is_changed = is_ours and model.dtype == "auto"
    slower = "this CPU has no AVX-512 and is several times slower in half precision"
    result = f"computes in float32, as {slower}" if is_changed else f"{slower} than with dtype=float32"
    print(f"{model.model}: dtype is {model.dtype}; {result}", file=sys.stderr)
    return {"dtype": "float32"} if is_changed else {}


def prepare_environment() -> bool:
    """Set vLLM's environment variables, except those that the user has set. Returns whether vLLM runs on CPU."""
    import torch

    on_cpu = not torch.backends.cuda.is_built()
    settings = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    if on_cpu:
        settings |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process: starts in seconds instead of half a minute
            "TORCHDYNAMO_DISABLE": "1",  # compiling takes longer than it saves, and needs g++
            "VLLM_CPU_OMP_THREADS_BIND": "auto",
        }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    return on_cpu


@functools.lru_cache(maxsize=4)
def _decode(data: bytes, max_pixels: int | None) -> "tuple[Image.Image, str]":
    """The decoded image, with at most `max_pixels` pixels, and its key in vLLM's caches."""
    from model.images import open_image

    image = scale_down(open_image(data), max_pixels)
    return image, f"{hashlib.sha256(data).hexdigest()}-{image.width}x{image.height}"


def _reason(error: Exception) -> str:
    """The line of a loading error that says what is wrong, with what to do where that is known."""
    text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    if "failed to be inspected" in line and importlib.util.find_spec("torchvision") is None:
        line += " Its code in vLLM may need torchvision, which the CPU set-up does not install: see docs/alignment.md."
    if "mamba cache" in line:
        line += " Set engine.prefix_caching=false."
    return line


def _reduced_precision(model: ModelSection, engine: EngineSection) -> str:
    """What else to try where a quantization or a KV cache of lower precision is set; empty without."""
    given = {"quantization": model.quantization, "engine.kv_cache_dtype": engine.kv_cache_dtype}
    set_to = [f"{name} is {value!r}" for name, value in given.items() if value not in (None, "auto")]
    if not set_to:
        return ""
    return f" ({' and '.join(set_to)}, which not every device and build runs; set another name of vLLM's, or remove it)"
