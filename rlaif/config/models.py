"""Settings of the models and of the engine that serves them."""

import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    """Base class of all sections: unknown keys are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class EndpointSection(Section):
    """An OpenAI-compatible server that runs the model, in place of vLLM on this machine."""

    url: str = Field(description="Base URL of the API, such as http://127.0.0.1:8000/v1.")
    api_key_env: str = Field(
        "RLAIF_API_KEY", description="Name of the environment variable that holds the API key, if the server needs one."
    )
    concurrency: int = Field(32, ge=1, description="Requests sent at the same time.")
    timeout: float = Field(300, gt=0, description="Seconds to wait for an answer before the request is sent again.")
    max_retries: int = Field(
        6, ge=0, description="Retries of a failed request; the waits between them double, up to 8 seconds."
    )
    top_logprobs: int = Field(
        20,
        ge=1,
        description="Most probable first tokens whose probabilities are requested, to find yes and no among them. "
        "Most servers allow at most 20; `make serve` allows any number.",
    )

    @field_validator("url")
    @classmethod
    def _address_alone(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError(
                "has more than an address in it (a user, password, query or #); keep the address, and put a key into "
                "the environment variable that api_key_env names"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an address; expected http://HOST:PORT/v1 or https://HOST/v1")
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _name_alone(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):  # not shown: it may be the key itself
            raise ValueError(
                "is not the name of an environment variable; expected a name such as RLAIF_API_KEY, not the key"
            )
        return name


class ModelSection(Section):
    """A vision-language model: a local folder, a model on the Hugging Face hub, or one that an endpoint serves."""

    model: str = Field(
        description="Folder with config.json and *.safetensors, hub id such as openbmb/MiniCPM-Llama3-V-2_5, or the "
        "model's name at the endpoint.",
        min_length=1,
    )
    revision: str | None = Field(
        None,
        description="Commit, tag or branch of a hub model; null = the newest commit. Set a commit to repeat a run.",
    )
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field(
        "auto",
        description="Precision of the weights; auto = as stored in the checkpoint. `dpo.method: full` trains "
        "in float32 in any case, and saves in this one. On a CPU without AVX-512, which has no fast half precision, "
        "vLLM computes in float32 for MiniCPM-V with auto.",
    )
    quantization: str | None = Field(
        None,
        min_length=1,
        description="Quantization of the weights under vLLM's name for it: fp8_per_tensor, fp8_per_channel, mxfp4 and "
        "others quantize while the model is loaded; null = as the checkpoint is stored, which one of awq, gptq or fp8 "
        "itself says. Not for the policy, which samples with the weights that are trained.",
    )
    endpoint: EndpointSection | None = Field(
        None, description="Server that runs the model (never the policy, which is trained here); null = vLLM runs it."
    )
    chat_template_kwargs: dict[str, Any] = Field(
        {},
        description="Variables of the model's chat template, such as {enable_thinking: false} for a model that thinks "
        "before it answers; never for the policy, which is trained without them.",
    )
    max_pixels: int | None = Field(
        None,
        ge=1,
        description="Images with more pixels are scaled down to this many before the model gets them; null = never. "
        "Not for the policy, which is trained on the images as they are.",
    )

    @model_validator(mode="after")
    def _server_decides_precision(self) -> Self:
        if self.endpoint is not None and self.dtype != "auto":
            raise ValueError(f"dtype is {self.dtype!r}, which the server of an endpoint decides; set dtype to auto")
        if self.endpoint is not None and self.quantization is not None:
            raise ValueError(
                f"quantization is {self.quantization!r}, which the server of an endpoint decides; remove quantization"
            )
        return self

    @property
    def is_hub_id(self) -> bool:
        """Whether `model` has the form owner/name of a hub repository."""
        return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", self.model) is not None

    def identity(self) -> dict[str, Any]:
        """The settings that decide the output of the model, to which tables are bound.

        The address of an endpoint, its concurrency, timeout and retries are not among them, nor is what is not set.
        """
        identity = self.model_dump(include={"model", "revision", "dtype"})
        if self.endpoint is not None:
            identity["endpoint"] = self.endpoint.model_dump(include={"top_logprobs"})
        if self.chat_template_kwargs:
            identity["chat_template_kwargs"] = self.chat_template_kwargs
        for name in ("max_pixels", "quantization"):
            if (value := getattr(self, name)) is not None:
                identity[name] = value
        return identity


class EngineSection(Section):
    """How vLLM serves the models for sampling, feedback and evaluation."""

    backend: Literal["vllm", "ray"] = Field(
        "vllm",
        description="Where vLLM runs: vllm = on this machine; ray = in actors on a Ray cluster of several machines, "
        "for `make generate` and `make feedback`.",
    )
    engines: int | None = Field(
        None,
        ge=1,
        description="Engines at the same time in `make generate` and `make feedback`, each with a copy of the model; "
        "null = one for each GPU, or each tensor_parallel_size GPUs; one on a machine without GPUs.",
    )
    ray_address: str | None = Field(
        None, description="Address of a Ray cluster, with `backend: ray`; null = one is started on this machine."
    )
    max_model_len: int | None = Field(
        None, ge=1, description="Longest prompt and answer together, in tokens; null = the limit of the model."
    )
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="Share of the GPU memory that vLLM may use.")
    kv_cache_gib: int = Field(
        1,
        ge=1,
        description="Memory of the KV cache of an engine on a CPU, in GiB. Where it is full, answers are stopped and "
        "begun again, so their tokens are computed twice: raise it for larger models and many answers at once.",
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs over which each model is split.")
    max_num_seqs: int = Field(256, ge=1, description="Most sequences that are decoded at the same time.")
    max_num_batched_tokens: int | None = Field(
        None,
        ge=1,
        description="Most tokens, of prompts and answers, that one step of the engine computes; null = vLLM's default "
        "for the device. More reads long prompts faster and takes more memory.",
    )
    kv_cache_dtype: Literal["auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"] = Field(
        "auto",
        description="Precision of the KV cache; auto = that of the model. fp8 holds twice as many sequences, and the "
        "answers of all models differ slightly.",
    )
    mm_processor_cache_gb: float = Field(
        4,
        ge=0,
        description="Memory of the process, in GiB, for images that the model's processor has already prepared; a "
        "question about the same image reuses them. 0 = none.",
    )
    prefix_caching: bool = Field(
        True,
        description="Reuse the KV cache of equal beginnings of prompts. Set false for linear attention on a CPU.",
    )
    enforce_eager: bool = Field(
        False, description="Run without compilation and CUDA graphs: starts faster, decodes more slowly."
    )

    def identity(self) -> dict[str, Any]:
        """The settings that decide the output of the models, to which tables are bound, as far as they are set."""
        identity: dict[str, Any] = {"max_model_len": self.max_model_len}
        if self.kv_cache_dtype != "auto":
            identity["kv_cache_dtype"] = self.kv_cache_dtype
        return identity
