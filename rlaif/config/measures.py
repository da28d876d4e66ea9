"""Settings of what measures and exports: evaluation, benchmarks, export."""

from typing import Literal

from pydantic import Field

from rlaif.config.models import ModelSection, Section


class EvaluationSection(Section):
    """How hallucination is measured; decoding is greedy."""

    max_tokens: int = Field(512, ge=1, description="longest answer in tokens")
    split: str = Field("test", description="split of the prompts that is answered")
    labeler: bool = Field(False, description="let the labeler judge the answers too: it needs no known truth")


class RaterSection(Section):
    """The model that rates answers to MMHal-Bench."""

    model: ModelSection | None = Field(None, description="model that rates the answers; null = the labeler")
    prompt: str | None = Field(
        None, description="text file with the request; null = evaluation/benchmarks/rate.txt", min_length=1
    )
    runs: int = Field(3, ge=1, description="times that each answer is rated; figures are means over them")
    temperature: float = Field(
        0.7, ge=0, description="sampling temperature of the ratings; 0 = greedy, which needs runs: 1"
    )
    max_tokens: int = Field(512, ge=1, description="longest rating in tokens, explanation included")


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
    rater: RaterSection = Field(RaterSection(), description="rating of the answers to mmhal")


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
