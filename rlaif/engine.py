"""The one seam over inference: stages ask an Engine; `open_engine` gives vLLM, `tests.doubles` has the double.

Why prompts of our own architecture are built from token ids: the policy must see in vLLM exactly the tokens that it is
trained on, and text of a user that looks like a special token (`<unk>`, `<image>`, `<|eot_id|>`, the image marker) must
stay text. vLLM's chat entry point tokenises the rendered template as one string and cannot tell the two apart.
vLLM puts an image's placeholders where it first finds the tokenised marker; the image stands first, so it is ours.
"""

import functools
import gc
import hashlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError
from tqdm import tqdm

from rlaif.config import EngineSection, ModelSection
from rlaif.errors import ModelError

if TYPE_CHECKING:
    from PIL import Image
    from vllm import SamplingParams

PROMPT_TOO_LONG = "prompt_too_long"

IMAGE_MARKER = "(<image>./</image>)"


@dataclass(frozen=True)
class Request:
    """One user turn, the image first, to be answered `n` times.

    image: encoded file bytes. seed: answer i is drawn with seed + i. json_schema: the answer is JSON of this schema.
    logprob_token_ids: full-vocabulary log-probabilities of these tokens (at most 128) at the answer's first position.
    token_logprobs: the log-probability of each token of the answer. One of the two can be asked for.
    """

    text: str
    image: bytes | None = None
    n: int = 1
    seed: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    json_schema: dict[str, Any] | None = None
    logprob_token_ids: tuple[int, ...] | None = None
    token_logprobs: bool = False


@dataclass(frozen=True)
class Completion:
    """One answer. finish_reason: "stop", "length" (cut by max_tokens or the model's length), or PROMPT_TOO_LONG.

    logprobs: by token id, those that `logprob_token_ids` asked for.
    tokens: where `token_logprobs` asked for them, (what it adds to the text, log-probability) of each token in order;
    an end token adds nothing.
    """

    text: str
    num_tokens: int
    finish_reason: str
    logprobs: dict[int, float] | None = None
    tokens: tuple[tuple[str, float], ...] | None = None


class Engine(Protocol):
    """What a stage may ask of a served model."""

    def generate(self, requests: Sequence[Request], description: str) -> list[list[Completion]]:
        """Answer each request `n` times, in the order of the requests, under a progress bar named `description`.

        A request whose prompt does not fit the model gets one empty Completion with finish_reason PROMPT_TOO_LONG.
        Requests with the same image should stand together: its encoding and its part of the KV cache are reused.
        """

    def spellings(self, word: str) -> tuple[int, ...]:
        """Ids of all vocabulary entries that read as `word` when decoded, stripped and lower-cased."""

    def close(self) -> None:
        """Give back the memory; the engine cannot be used afterwards."""


def open_engine(model: ModelSection, engine: EngineSection, seed: int) -> Engine:
    """Load a model for inference.

    Errors: ModelError when the folder holds no model or vLLM cannot load it.
    """
    return VllmEngine(model, engine, seed)


class VllmEngine:
    """vLLM in this process on CPU, in processes of its own on GPU."""

    def __init__(self, model: ModelSection, engine: EngineSection, seed: int) -> None:
        on_cpu = prepare_environment()
        from vllm import LLM

        options: dict[str, Any] = {
            "revision": model.revision,
            "tokenizer_revision": model.revision,
            "dtype": model.dtype,
            "seed": seed,
            "max_model_len": engine.max_model_len,
            "max_num_seqs": engine.max_num_seqs,
            "tensor_parallel_size": engine.tensor_parallel_size,
            "gpu_memory_utilization": engine.gpu_memory_utilization,
            "enforce_eager": engine.enforce_eager or on_cpu,
            "enable_prefix_caching": engine.prefix_caching,
            "limit_mm_per_prompt": {"image": 1, "video": 0, "audio": 0},
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
            "use_tqdm_on_load": False,
        }
        if on_cpu:  # a block of 16 is refused there, and the default of 128 wastes the prefix cache
            options |= {"block_size": 32, "kv_cache_memory_bytes": engine.kv_cache_gib * 2**30}
            # a seeded request whose prompt is cut in chunks ends in "CPU Generator does not use offset"
            options |= {"enable_chunked_prefill": False}
        try:
            self._llm = LLM(model.model, **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"vLLM cannot load the model {model.model!r}: {_reason(error)}") from error
        self._most_sequences = engine.max_num_seqs
        self._tokenizer: Any = self._llm.get_tokenizer()
        self._processor: Any = None
        self._stop_token_ids: list[int] = []
        if self._llm.model_config.hf_config.model_type == "minicpmv":
            self._open_own_processor(model)

    def _open_own_processor(self, model: ModelSection) -> None:
        from transformers import AutoProcessor  # vLLM's plugin has made our classes known by now

        self._processor = AutoProcessor.from_pretrained(model.model, revision=model.revision)
        self._stop_token_ids = [self._processor.end_of_turn]
        marker = self._tokenizer.encode(IMAGE_MARKER, add_special_tokens=False)
        ids = self._processor.encode_turn("", has_image=True)
        # Not found as tokens, vLLM would look for the marker in the decoded text and encode all of it again.
        assert any(ids[i : i + len(marker)] == marker for i in range(len(ids))), (
            f"the tokens of {IMAGE_MARKER} are not in a turn as vLLM looks for them"
        )

    def generate(self, requests: Sequence[Request], description: str) -> list[list[Completion]]:
        """See Engine. Requests are prepared as room for them appears, so that few images are in memory at a time."""
        from vllm import RequestOutput

        results: list[list[Completion]] = [[] for _ in requests]
        accepted: list[int] = []
        finished: list[RequestOutput] = []
        running = 0  # sequences
        waiting = iter(enumerate(requests))
        with tqdm(
            total=sum(request.n for request in requests), desc=description, unit="answer", dynamic_ncols=True
        ) as bar:
            while True:
                while running < self._most_sequences * 3 // 2:  # half as many in wait as can run
                    if (row := next(waiting, None)) is None:
                        break
                    index, request = row
                    if self._enqueue(request):
                        accepted.append(index)
                        running += request.n
                    else:
                        results[index] = [Completion("", 0, PROMPT_TOO_LONG)]
                        bar.update(request.n)
                if not running:
                    break
                for output in self._llm.llm_engine.step():
                    if isinstance(output, RequestOutput) and output.finished:
                        finished.append(output)
                        running -= len(output.outputs)
                        bar.update(len(output.outputs))
        finished.sort(key=lambda output: int(output.request_id))  # vLLM numbers requests as they come
        for index, output in zip(accepted, finished, strict=True):
            results[index] = [_completion(requests[index], answer) for answer in output.outputs]
        return results

    def _enqueue(self, request: Request) -> bool:
        """Hand a request to vLLM; False where its prompt is too long for the model."""
        from vllm.exceptions import VLLMValidationError

        image, image_id = _decode(request.image) if request.image is not None else (None, None)
        params = self._sampling_params(request)
        try:
            if self._processor is not None:
                prompt: Any = {
                    "prompt_token_ids": self._processor.encode_turn(request.text, has_image=image is not None)
                }
                if image is not None:
                    prompt |= {"multi_modal_data": {"image": [image]}, "multi_modal_uuids": {"image": [image_id]}}
                self._llm.enqueue(prompt, params, use_tqdm=False)
            else:
                content: list[dict[str, Any]] = [{"type": "text", "text": request.text}]
                if image is not None:
                    content.insert(0, {"type": "image_pil", "image_pil": image, "uuid": image_id})
                messages: Any = [{"role": "user", "content": content}]
                self._llm.enqueue_chat(messages, params, use_tqdm=False)
        except VLLMValidationError as error:
            if error.parameter in ("input_text", "input_tokens") or "maximum model length" in str(error):
                return False
            raise
        return True

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
            logprob_token_ids=list(request.logprob_token_ids) if request.logprob_token_ids else None,
        )

    def spellings(self, word: str) -> tuple[int, ...]:
        """See Engine."""
        ids = sorted(self._tokenizer.get_vocab().values())
        texts = self._tokenizer.batch_decode([[token_id] for token_id in ids])
        return tuple(
            token_id for token_id, text in zip(ids, texts, strict=True) if text.strip().lower() == word.lower()
        )

    def close(self) -> None:
        """See Engine."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        gc.collect()


def prepare_environment() -> bool:
    """Set what vLLM reads from the environment, except what the user has set. Returns whether it runs on CPU."""
    import torch

    on_cpu = not torch.backends.cuda.is_built()
    settings = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    if on_cpu:
        settings |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process: starts in seconds instead of half a minute
            "TORCHDYNAMO_DISABLE": "1",  # compiling takes longer than it saves, and wants g++
            "VLLM_CPU_OMP_THREADS_BIND": "auto",
        }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    return on_cpu


@functools.lru_cache(maxsize=4)
def _decode(data: bytes) -> "tuple[Image.Image, str]":
    """The image and a name for it in vLLM's caches."""
    from rlaif.images import open_image

    return open_image(data), hashlib.sha256(data).hexdigest()


def _completion(request: Request, answer: Any) -> Completion:
    logprobs = None
    if request.logprob_token_ids:
        first = answer.logprobs[0]
        logprobs = {token_id: first[token_id].logprob for token_id in request.logprob_token_ids}
    tokens = _tokens(answer) if request.token_logprobs else None
    return Completion(answer.text, len(answer.token_ids), answer.finish_reason, logprobs, tokens)


def _tokens(answer: Any) -> tuple[tuple[str, float], ...]:
    left = len(answer.text)
    tokens = []
    for token_id, position in zip(answer.token_ids, answer.logprobs, strict=True):
        added = (position[token_id].decoded_token or "")[:left]
        left -= len(added)
        tokens.append((added, position[token_id].logprob))
    return tuple(tokens)


def _reason(error: Exception) -> str:
    """The one line of a loading error that says what is wrong."""
    text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    if "failed to be inspected" in line and importlib.util.find_spec("torchvision") is None:
        line += " It may be that its code in vLLM needs torchvision, which the CPU set-up leaves out: see README."
    if "mamba cache" in line:
        line += " Set engine.prefix_caching=false."
    return line
