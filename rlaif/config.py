"""The configuration of the whole pipeline, described once: YAML files and the command line follow from these classes.

A YAML file in `configs/` gives the sections; `--set section.key=value` changes single values after it. An unknown key
is an error.
"""

import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import TypeVar


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


class DataSection(Section):
    """Where images and instructions come from."""

    source: Literal["scenes", "folder", "parquet", "datasets"] = Field(
        "scenes", description="embedded scenes, a folder of images, parquet file(s), or a `datasets` data set"
    )
    path: str | None = Field(None, description="folder, parquet file or name of the data set; none for `scenes`")
    instructions: str | None = Field(
        None, description="text file with one instruction a line, for `folder`; null = generation/instructions.txt"
    )
    split: str = Field("train", description="split of the data set to read, for `datasets`")
    revision: str | None = Field(None, description="commit, tag or branch of a data set on the hub; null = the newest")
    image_hosts: list[str] = Field(
        [], description="hosts from which image URLs are fetched, by exact name; empty = URLs are dropped"
    )
    max_instruction_chars: int = Field(10_000, ge=1, description="longer instructions are dropped")
    image_column: str = Field("image", description="column with the image, for `parquet` and `datasets`")
    question_column: str = Field("question", description="column with the instruction, for `parquet` and `datasets`")
    train_prompts: int = Field(400, ge=0, description="scenes of the train split, from which pairs are made")
    train_parts: int = Field(
        1,
        ge=1,
        description="parts that training images are divided into, by their hash: round r has part r, after the last "
        "the first again; of scenes each part has train_prompts",
    )
    validation_prompts: int = Field(0, ge=0, description="scenes of the validation split")
    test_prompts: int = Field(300, ge=0, description="scenes of the test split, on which figures are reported")
    validation_share: float = Field(0, ge=0, lt=1, description="share of the images of other sources for validation")
    test_share: float = Field(0, ge=0, lt=1, description="share of the images of other sources for the test split")
    limit: int | None = Field(None, ge=1, description="use only the first so many prompts; null = all")

    @model_validator(mode="after")
    def _path_fits_source(self) -> Self:
        if self.source == "scenes" and self.path is not None:
            raise ValueError(f"path is {self.path!r}, but source 'scenes' reads none; set data.source too")
        if self.source != "scenes" and self.path is None:
            raise ValueError(f"source {self.source!r} needs data.path")
        if self.source != "folder" and self.instructions is not None:
            raise ValueError(f"instructions are read for source 'folder' only, not for {self.source!r}")
        if self.source == "scenes" and (self.validation_share or self.test_share):
            raise ValueError("validation_share and test_share divide other sources; scenes have validation_prompts")
        if self.validation_share + self.test_share >= 1:
            raise ValueError(f"validation_share {self.validation_share} and test_share {self.test_share} leave nothing")
        for host in self.image_hosts:
            if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", host):
                raise ValueError(
                    f"image_hosts has {host!r}; it takes names such as 'images.example.org', in lower case"
                )
        if self.source != "datasets" and self.revision is not None:
            raise ValueError(f"revision names a commit of source 'datasets', not of {self.source!r}")
        return self


class GenerationSection(Section):
    """How responses are sampled."""

    splits: list[Literal["train", "validation", "test"]] = Field(
        ["train"],
        min_length=1,
        description="splits that are answered; pairs of `validation` are for DPO to watch",
    )
    num_responses: int = Field(10, ge=1, description="responses for each prompt")
    temperature: float = Field(0.7, ge=0, description="sampling temperature; 0 = greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling: smallest set of tokens with this probability")
    max_tokens: int = Field(512, ge=1, description="longest response in tokens")


class FeedbackSection(Section):
    """How responses are divided into claims, scored and paired."""

    prompts: str | None = Field(None, description="folder with own prompt files; null = those in feedback/prompts")
    max_retries: int = Field(2, ge=0, description="further tries, with another seed, at a response that did not divide")
    max_claim_tokens: int = Field(1024, ge=1, description="longest list of claims in tokens")
    min_yes_no_mass: float = Field(
        0.5, ge=0, le=1, description="with less mass on yes and no a verdict is counted as weak"
    )
    score: Literal["rejected_count", "rejected_share", "expected_rejected", "mean_log_odds", "whole_response"] = Field(
        "rejected_count", description="rule that combines the verdicts of a response into its score"
    )
    min_margin: float = Field(0, ge=0, description="least difference of scores between the sides of a pair")
    pairs_per_prompt: int = Field(2, ge=1, description="most pairs for each prompt")
    balance_length: bool = Field(False, description="choose pairs with equally long sides on average")


class LoraSection(Section):
    """The adapter of `method: lora`."""

    r: int = Field(64, ge=1, description="rank")
    alpha: float = Field(16, gt=0, description="scale; the update is multiplied by alpha / r")
    dropout: float = Field(0.05, ge=0, lt=1, description="dropout on the adapter's input")
    target_modules: list[str] = Field(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        description="linear layers of the language model that get an adapter",
    )
    train_resampler: bool = Field(False, description="train the whole resampler beside the adapter")


class DpoSection(Section):
    """How the policy is aligned with the pairs."""

    trainer: dict[str, Any] = Field({}, description="keys of TRL's DPOConfig, read strictly")
    method: Literal["full", "lora"] = Field("full", description="train all that is not frozen, or a LoRA adapter")
    freeze: list[Literal["vision", "resampler", "llm"]] = Field(["vision"], description="parts that do not move (full)")
    lora: LoraSection = Field(LoraSection(), description="adapter of `method: lora`")
    max_answer_tokens: int | None = Field(
        None, ge=1, description="longer answers are cut, prompts never; null = no cut"
    )
    shared_prefix: bool = Field(True, description="compute each prompt once for both answers (MiniCPM-V)")
    shared_vision: bool = Field(
        True, description="encode images once for policy and reference where the encoder is frozen (MiniCPM-V)"
    )


class EvaluationSection(Section):
    """How hallucination is measured; decoding is greedy."""

    max_tokens: int = Field(512, ge=1, description="longest answer in tokens")
    split: str = Field("test", description="split of the prompts that is answered")
    labeler: bool = Field(False, description="let the labeler judge the answers too: it needs no known truth")


class JudgeSection(Section):
    """Who rates answers to MMHal-Bench, and how."""

    model: ModelSection | None = Field(None, description="the model that judges; null = the labeler")
    prompt: str | None = Field(
        None, description="text file with the request; null = feedback/benchmarks/judge.txt", min_length=1
    )
    runs: int = Field(3, ge=1, description="times that each answer is rated; figures are means over them")
    temperature: float = Field(0.7, ge=0, description="sampling temperature of the judge; 0 = greedy, for one run")
    max_tokens: int = Field(512, ge=1, description="longest judgement in tokens")


class BenchmarkSection(Section):
    """Which public benchmark `make benchmark` runs; answers are greedy and at most evaluation.max_tokens long."""

    name: Literal["chair", "amber", "pope", "mmhal"] | None = Field(None, description="the benchmark")
    path: str | None = Field(None, description="folder with its published files; null = the embedded scenes")
    images: str | None = Field(None, description="folder with its images; null = the folder images/ in that one")
    questions: str | None = Field(
        None, description="name of the file with questions; null = as published", min_length=1
    )
    instruction: str = Field(
        "Describe the image in detail.",
        description="what chair asks where there is no file with questions",
        min_length=1,
    )
    suffix: str = Field("", description="put behind each question, such as ' Answer yes or no.'")
    limit: int | None = Field(None, ge=1, description="ask only the first so many questions of each file; null = all")
    scenes: int = Field(200, ge=1, description="embedded scenes, where there is no path")
    judge: JudgeSection = Field(JudgeSection(), description="rating of the answers, for mmhal")


class ExportSection(Section):
    """How the pairs go to other tools, and whether they leave this machine."""

    format: Literal["trl", "rlaif-v", "llama-factory", "ms-swift"] = Field(
        "trl", description="the tool or data set whose layout the pairs get"
    )
    license: str | None = Field(
        None, min_length=1, description="licence of the data set, as the hub names it; a push needs one"
    )
    push: str | None = Field(
        None,
        pattern=r"^[\w-][\w.-]*/[\w-][\w.-]*$",
        description="owner/name of the hub data set to push to; null = nothing is sent anywhere",
    )
    private: bool = Field(True, description="whether the data set on the hub is private")


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


class Config(Section):
    """Everything that decides a run. Paths are relative to the current directory."""

    seed: int = Field(0, ge=0, description="seed from which every other seed is derived")
    round: int = Field(1, ge=1, description="round of alignment, part of each response's id")
    rounds: int = Field(4, ge=1, description="rounds that `make rounds` makes")
    average_last: int = Field(
        0,
        ge=0,
        description="last rounds, the mean of whose policies' weights is one more to choose from; 0: none",
    )
    best_of: int = Field(16, ge=2, description="responses of the aligned policy that `make best-of-n` chooses from")
    policy: ModelSection = Field(description="the model that answers and is aligned")
    labeler: ModelSection = Field(description="the model that divides responses and judges claims")
    splitter: ModelSection | None = Field(
        None, description="the model that divides responses, one that sees no images will do; null = the labeler"
    )
    reference_policy: ModelSection | None = Field(
        None, description="what policy was aligned from, for the rewards of best-of-n"
    )
    data: DataSection = Field(DataSection(), description="images and instructions")
    generation: GenerationSection = Field(GenerationSection(), description="sampling of responses")
    feedback: FeedbackSection = Field(FeedbackSection(), description="claims, scores, pairs")
    dpo: DpoSection = Field(DpoSection(), description="alignment")
    evaluation: EvaluationSection = Field(EvaluationSection(), description="measurement")
    benchmark: BenchmarkSection = Field(BenchmarkSection(), description="public benchmarks")
    export: ExportSection = Field(ExportSection(), description="pairs for other tools")
    engine: EngineSection = Field(EngineSection(), description="serving")

    @property
    def averaged_rounds(self) -> range:
        """The rounds, the mean of whose policies' weights is one more policy to choose from; empty for none."""
        return range(max(1, self.rounds - self.average_last + 1), self.rounds + 1)

    @model_validator(mode="after")
    def _policy_is_here(self) -> Self:
        if self.policy.endpoint is not None:
            raise ValueError("policy.endpoint is set, but the policy is trained here; only the labeler can be remote")
        return self


class VariantSection(Section):
    """One row of a table of ablations: what is changed, and for how many rounds it is run."""

    config: str | None = Field(None, description="configuration to change; null = that of the table")
    set: list[str] = Field([], description="changes, each section.key=value")
    rounds: bool = Field(False, description="run `make rounds`, not one round")


class AblationsConfig(Section):
    """Runs that differ in one thing each, for `make ablations`."""

    config: str = Field(description="configuration that the runs change")
    seed: int = Field(0, ge=0, description="seed of every run")
    variants: dict[str, VariantSection] = Field(
        min_length=1, description="name, which is a folder's too -> what is changed"
    )


class CaptionsSection(Section):
    """Pictures with their captions as found."""

    path: str = Field(description="parquet file, or a folder of them")
    image_column: str = Field("image", description="column with the image")
    caption_column: str = Field("caption", description="column with the raw caption")
    limit: int | None = Field(None, ge=1, description="use only the first so many captions; null = all")


class RewriteSection(Section):
    """How captions are rewritten, and which of the new ones are kept."""

    prompt: str | None = Field(None, description="text file with the request; null = generation/rewrite.txt")
    max_tokens: int = Field(512, ge=1, description="longest question and new caption in tokens")
    min_fluency: float = Field(-1.0, le=0, description="least mean log-probability of its tokens under the rewriter")
    max_repetition: float = Field(
        0.3, ge=0, le=1, description="largest share of four-word sequences that came before in it"
    )
    min_words: int = Field(3, ge=1, description="least words")
    max_words: int = Field(200, ge=1, description="most words")
    min_length_ratio: float = Field(0.2, ge=0, description="least words for each word of the raw caption")
    max_length_ratio: float = Field(3.0, gt=0, description="most words for each word of the raw caption")
    max_invented: float = Field(
        0.1, ge=0, le=1, description="largest share of content words that the raw caption has in no spelling"
    )
    max_slips: float = Field(
        0.34, ge=0, lt=1, description="most slips of the pen for each letter of a word that is still the same word"
    )


class RewriteConfig(Section):
    """Everything that decides how captions are rewritten. Paths are relative to the current directory."""

    seed: int = Field(0, ge=0, description="seed of the engine")
    rewriter: ModelSection = Field(description="the language model that rewrites")
    captions: CaptionsSection = Field(description="pictures and raw captions")
    rewrite: RewriteSection = Field(RewriteSection(), description="the request and the rules")
    engine: EngineSection = Field(EngineSection(), description="serving")


AnyConfig = TypeVar("AnyConfig", bound=Section, default=Config)
