"""Settings of evaluation, benchmarks and export."""

from typing import Literal

from pydantic import Field

from rlaif.config.models import ModelSection, Section


class ShortAnswersSection(Section):
    """Short questions before and after alignment (`make evaluate`): what alignment on descriptions may cost."""

    path: str | None = Field(
        None,
        description="Table of images, questions and answers (JSON, JSON lines, CSV, parquet), or a folder of them; "
        "null = questions from the known truth of the images, if there is one.",
    )
    image_column: str = Field("image", description="Column with the image.")
    question_column: str = Field("question", description="Column with the question.")
    answer_column: str = Field("answer", description="Column with the answer, or with a list of correct answers.")
    suffix: str = Field("", description="Text after each question, such as ' Answer with one word.'.")
    max_tokens: int = Field(16, ge=1, description="Longest answer, in tokens; a longer one is cut and counts as wrong.")
    limit: int = Field(300, ge=0, description="Most questions; 0 = none.")


class EvaluationSection(Section):
    """How hallucination is measured before and after alignment (`make evaluate`); decoding is greedy."""

    max_tokens: int = Field(512, ge=1, description="Longest answer, in tokens.")
    split: str = Field("test", description="Split whose prompts are answered.")
    labeler: bool = Field(False, description="Also verify the answers with the labeler, which needs no known truth.")
    short_answers: ShortAnswersSection = Field(
        ShortAnswersSection(), description="Short questions before and after alignment."
    )


class RaterSection(Section):
    """The model that rates answers to MMHal-Bench (`make benchmark NAME=mmhal`)."""

    model: ModelSection | None = Field(None, description="The model that rates; null = the labeler.")
    prompt: str | None = Field(
        None,
        description="Text file with the rating prompt; null = evaluation/benchmarks/rate.txt.",
        min_length=1,
    )
    runs: int = Field(3, ge=1, description="Ratings of each answer; figures are means over them.")
    temperature: float = Field(
        0.7, ge=0, description="Sampling temperature of the ratings; 0 = greedy, which needs `runs: 1`."
    )
    max_tokens: int = Field(512, ge=1, description="Longest rating with its explanation, in tokens.")


class BenchmarkSection(Section):
    """The public benchmark of `make benchmark`; answers are greedy and have at most `evaluation.max_tokens` tokens."""

    name: Literal["chair", "amber", "pope", "mmhal"] | None = Field(
        None, description="The benchmark; `make benchmark NAME=pope` sets it."
    )
    path: str | None = Field(
        None, description="Folder with the published files of the benchmark; null = questions about rendered scenes."
    )
    images: str | None = Field(None, description="Folder with the images; null = the folder images/ in `path`.")
    questions: str | None = Field(
        None, description="Name of the question file in `path`; null = its published name.", min_length=1
    )
    instruction: str = Field(
        "Describe the image in detail.",
        description="Instruction of chair, if there is no question file.",
        min_length=1,
    )
    suffix: str = Field("", description="Text after each question, such as ' Answer yes or no.'.")
    limit: int | None = Field(None, ge=1, description="Use only the first `limit` questions of each file; null = all.")
    scenes: int = Field(200, ge=1, description="Rendered scenes, if there is no `path`.")
    rater: RaterSection = Field(RaterSection(), description="The model that rates answers to mmhal.")


class ExportSection(Section):
    """How pairs are exported to other tools (`make export`), and whether they are pushed to the Hugging Face hub."""

    format: Literal["trl", "rlaif-v", "llama-factory", "ms-swift"] = Field(
        "trl", description="The tool, or data set, whose format is written."
    )
    license: str | None = Field(
        None,
        min_length=1,
        description="License of the data set, as the hub names it (cc-by-4.0, say); a push needs one.",
    )
    push: str | None = Field(
        None,
        pattern=r"^[\w-][\w.-]*/[\w-][\w.-]*$",
        description="Hub data set to push to, as owner/name; null = nothing leaves this machine.",
    )
    private: bool = Field(True, description="Create the hub data set as private.")
