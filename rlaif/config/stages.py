"""Settings of the stages: data, generation, feedback, DPO."""

import re
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rlaif.config.models import Section


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
