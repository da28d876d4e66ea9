"""Which models run, and how they are served."""

import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    """What all sections have in common: unknown keys are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class EndpointSection(Section):
    """An OpenAI-compatible server that is asked, in place of a model that is loaded here."""

    url: str = Field(description="address of its API, such as http://127.0.0.1:8000/v1")
    api_key_env: str = Field(
        "RLAIF_API_KEY", description="environment variable that holds the key, where one is needed; never the key"
    )
    concurrency: int = Field(32, ge=1, description="requests that are asked at the same time")
    timeout: float = Field(300, gt=0, description="seconds to wait for an answer before it is asked for again")
    max_retries: int = Field(
        6, ge=0, description="further tries at a request that failed, after waits that double up to 8 seconds"
    )
    top_logprobs: int = Field(
        20, ge=1, description="most probable first tokens that are told of; most endpoints allow 20, ours any number"
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
            raise ValueError(f"{url!r} is no address; it takes http://HOST:PORT/v1 or https://HOST/v1")
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _name_alone(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):  # not told what it is: it may be the key itself
            raise ValueError("is no name of an environment variable; it takes a name such as RLAIF_API_KEY, not a key")
        return name


class ModelSection(Section):
    """A model: a folder in the released layout, a hub id, or, with `endpoint`, what a server calls it."""

    model: str = Field(
        description="folder of a model, its id on the Hugging Face hub, or its name at the endpoint", min_length=1
    )
    revision: str | None = Field(None, description="commit, tag or branch of a hub model; pin a commit to repeat a run")
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field("auto", description="precision of the weights")
    endpoint: EndpointSection | None = Field(None, description="server that has the model; null = it is loaded here")

    @model_validator(mode="after")
    def _server_decides_precision(self) -> Self:
        if self.endpoint is not None and self.dtype != "auto":
            raise ValueError(f"dtype is {self.dtype!r}, which the server of an endpoint decides; set dtype to auto")
        return self

    def identity(self) -> dict[str, Any]:
        """What decides what the model says, for the settings that a table is bound to.

        Where an endpoint is, how often and how patiently it is asked is no part of it.
        """
        if self.endpoint is None:
            return self.model_dump(exclude={"endpoint"})
        return self.model_dump(include={"model": True, "revision": True, "dtype": True, "endpoint": {"top_logprobs"}})


class EngineSection(Section):
    """How models are served for sampling and labelling."""

    backend: Literal["vllm", "ray"] = Field(
        "vllm", description="vLLM in this process, or vLLM in actors on a Ray cluster, for generation and feedback"
    )
    actors: int | None = Field(None, ge=1, description="actors of `ray`; null = one for the GPUs that share a model")
    ray_address: str | None = Field(None, description="address of a Ray cluster; null = one is started here")
    max_model_len: int | None = Field(None, ge=1, description="longest prompt and answer in tokens; null = the model's")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="share of the GPU's memory that vLLM takes")
    kv_cache_gib: int = Field(1, ge=1, description="memory for the KV cache on CPU, in whole GiB")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share one model")
    max_num_seqs: int = Field(256, ge=1, description="most sequences in one step")
    prefix_caching: bool = Field(
        True, description="reuse what prompts begin with; false for models with linear attention, on CPU"
    )
    enforce_eager: bool = Field(False, description="no compilation and no CUDA graphs: starts sooner, runs slower")
