"""The whole configuration of a run, of a table of ablations and of caption rewriting."""

from typing import Self

from pydantic import Field, model_validator
from typing_extensions import TypeVar

from rlaif.config.measures import BenchmarkSection, EvaluationSection, ExportSection
from rlaif.config.models import EngineSection, ModelSection, Section
from rlaif.config.stages import DataSection, DpoSection, FeedbackSection, GenerationSection


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
    max_edits_per_character: float = Field(
        0.34, ge=0, lt=1, description="most edits per character between two spellings of the same word"
    )


class RewriteConfig(Section):
    """Everything that decides how captions are rewritten. Paths are relative to the current directory."""

    seed: int = Field(0, ge=0, description="seed of the engine")
    rewriter: ModelSection = Field(description="the language model that rewrites")
    captions: CaptionsSection = Field(description="pictures and raw captions")
    rewrite: RewriteSection = Field(RewriteSection(), description="the request and the rules")
    engine: EngineSection = Field(EngineSection(), description="serving")


AnyConfig = TypeVar("AnyConfig", bound=Section, default=Config)
