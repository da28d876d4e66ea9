"""The configuration of the whole pipeline, described once: YAML files and the command line follow from these classes.

A YAML file in `configs/` gives the sections; `--set section.key=value` changes single values after it. An unknown key
is an error.
"""

import argparse
import difflib
import re
import reprlib
import sys
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import TypeVar

from rlaif.errors import ConfigError, RlaifError


class Section(BaseModel):
    """What all sections have in common: unknown keys are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(Section):
    """A model: a folder in the released layout, or a hub id."""

    model: str = Field(description="folder of a model, or its id on the Hugging Face hub", min_length=1)
    revision: str | None = Field(None, description="commit, tag or branch of a hub model; pin a commit to repeat a run")
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field("auto", description="precision of the weights")


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
    image_column: str = Field("image", description="column with the image, for `parquet` and `datasets`")
    question_column: str = Field("question", description="column with the instruction, for `parquet` and `datasets`")
    train_prompts: int = Field(400, ge=0, description="scenes of the train split, from which pairs are made")
    validation_prompts: int = Field(0, ge=0, description="scenes of the validation split")
    test_prompts: int = Field(300, ge=0, description="scenes of the test split, on which figures are reported")
    limit: int | None = Field(None, ge=1, description="use only the first so many prompts; null = all")

    @model_validator(mode="after")
    def _path_fits_source(self) -> Self:
        if self.source == "scenes" and self.path is not None:
            raise ValueError(f"path is {self.path!r}, but source 'scenes' reads none; set data.source too")
        if self.source != "scenes" and self.path is None:
            raise ValueError(f"source {self.source!r} needs data.path")
        if self.source != "folder" and self.instructions is not None:
            raise ValueError(f"instructions are read for source 'folder' only, not for {self.source!r}")
        return self


class GenerationSection(Section):
    """How responses are sampled."""

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
    score: Literal["rejected_count", "rejected_share", "mean_log_odds"] = Field(
        "rejected_count", description="rule that combines the verdicts of a response into its score"
    )
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


class EvaluationSection(Section):
    """How hallucination is measured; decoding is greedy."""

    max_tokens: int = Field(512, ge=1, description="longest answer in tokens")
    split: str = Field("test", description="split of the prompts that is answered")


class EngineSection(Section):
    """How models are served for sampling and labelling."""

    backend: Literal["vllm"] = Field("vllm", description="inference engine")
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
    policy: ModelSection = Field(description="the model that answers and is aligned")
    labeler: ModelSection = Field(description="the model that divides responses and judges claims")
    data: DataSection = Field(DataSection(), description="images and instructions")
    generation: GenerationSection = Field(GenerationSection(), description="sampling of responses")
    feedback: FeedbackSection = Field(FeedbackSection(), description="claims, scores, pairs")
    dpo: DpoSection = Field(DpoSection(), description="alignment")
    evaluation: EvaluationSection = Field(EvaluationSection(), description="measurement")
    engine: EngineSection = Field(EngineSection(), description="serving")


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


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 5e-7 as the number it is (YAML 1.1 reads a string) and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_NUMBER = re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789"))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a round; see `load_config_of`."""
    return load_config_of(Config, path, overrides)


def load_config_of(kind: type[AnyConfig], path: str | Path, overrides: Sequence[str] = ()) -> AnyConfig:
    """Read a YAML file, apply `section.key=value` overrides in order, and check everything.

    Errors: ConfigError for a missing or malformed file, an unknown key or a value that is not allowed.
    """
    path = Path(path)
    if not path.is_file():
        known = ", ".join(sorted(str(other) for other in path.parent.glob("*.yaml"))) or "none"
        raise ConfigError(f"no configuration file {path}; in that folder there are: {known}")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}, not sections; see configs/demo.yaml for an example")
    for override in overrides:
        _apply_override(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_describe(kind, error)}") from error


def _apply_override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    *sections, key = name.split(".")
    if not equals or not all([*sections, key]):
        raise ConfigError(f"--set got {override!r}; it takes section.key=value, for example generation.temperature=0.7")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {name}: the value {text!r} is not valid YAML") from error
    for depth, section in enumerate(sections, start=1):
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            raise ConfigError(f"--set {name}: {'.'.join(sections[:depth])} is a single value and has no keys")
    values[key] = value


def _describe(kind: type[Section], error: ValidationError) -> str:
    """One line for the first problem; an unknown key goes first, as a misspelt section also shows as a missing one."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem, more = problems[0], len(problems) - 1
    where = ".".join(map(str, problem["loc"])) or "the file"
    if problem["type"] == "extra_forbidden":
        allowed = _keys_beside(kind, problem["loc"])
        close = difflib.get_close_matches(str(problem["loc"][-1]), allowed, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        text = f"unknown key {where!r}; {hint}allowed here: {', '.join(allowed)}"
    elif problem["type"] == "missing":
        text = f"{where} is missing; it is needed"
    elif problem["type"] == "value_error":
        text = f"{where}: {problem['ctx']['error']}"
    else:
        text = f"{where} is {reprlib.repr(problem['input'])}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
    return text + (f" (and {more} more)" if more else "")


def _keys_beside(root: type[Section], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the section holding `location` knows."""
    section: type[BaseModel] = root
    for name in location[:-1]:
        annotation = section.model_fields[str(name)].annotation
        section = next(kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type))
    return list(section.model_fields)


def run_stage(
    kind: type[AnyConfig],
    stage: str,
    summary: str,
    action: Callable[[AnyConfig, Path], object],
    argv: Sequence[str] | None = None,
) -> int:
    """The command of a stage: `action` with the configuration and the run folder that the command line names.

    `stage` is the module that `python -m` runs. Returns the exit status: 2 after an error that the user can put right,
    which is told in one line.
    """
    try:
        action(*parse_stage_args(kind, stage, summary, argv))
    except RlaifError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse_stage_args(
    kind: type[AnyConfig], stage: str, summary: str, argv: Sequence[str] | None = None
) -> tuple[AnyConfig, Path]:
    """Read the command line that every stage has: `--config FILE --run FOLDER [--set section.key=value ...]`.

    Errors: ConfigError.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {stage}", description=summary)
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML configuration, such as configs/demo.yaml")
    parser.add_argument("--run", required=True, metavar="FOLDER", type=Path, help="run folder, such as runs/demo")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change single values, such as generation.temperature=1.0; can be repeated",
    )
    args = parser.parse_args(argv)
    return load_config_of(kind, args.config, args.overrides), args.run
