"""The configuration of a run, of a table of ablations and of caption rewriting."""

from typing import Self

from pydantic import Field, model_validator
from typing_extensions import TypeVar

from rlaif.config.edge import EdgeSection
from rlaif.config.measures import BenchmarkSection, EvaluationSection, ExportSection
from rlaif.config.models import EngineSection, ModelSection, Section
from rlaif.config.stages import DataSection, DpoSection, FeedbackSection, GenerationSection


class Config(Section):
    """Settings of `make demo` and its stages, `make rounds`, `make best-of-n`, `make benchmark` and `make export`.

    Paths are relative to the current directory.
    """

    seed: int = Field(0, ge=0, description="Seed from which all other seeds are derived.")
    round: int = Field(1, ge=1, description="Number of this round of alignment; `make rounds` sets it.")
    rounds: int = Field(4, ge=1, description="Rounds of `make rounds`.")
    average_last: int = Field(
        0,
        ge=0,
        description="Number of last rounds whose policies `make rounds` also averages, weight by weight; the average "
        "competes with them on validation; 0 = no average.",
    )
    best_of: int = Field(16, ge=2, description="Responses among which `make best-of-n` selects.")
    policy: ModelSection = Field(description="The model that samples responses and is aligned.")
    labeler: ModelSection = Field(description="The model that divides responses into claims and verifies them.")
    splitter: ModelSection | None = Field(
        None,
        description="The model that divides responses into claims, which may be a text-only one; null = the labeler.",
    )
    reference_policy: ModelSection | None = Field(
        None,
        description="The model that `policy` was aligned from, for the rewards of `make best-of-n`, which sets it.",
    )
    data: DataSection = Field(DataSection(), description="Images, instructions, splits.")
    generation: GenerationSection = Field(GenerationSection(), description="Sampling of responses.")
    feedback: FeedbackSection = Field(FeedbackSection(), description="Claims, verdicts, scores, pairs.")
    dpo: DpoSection = Field(DpoSection(), description="Alignment with the pairs.")
    evaluation: EvaluationSection = Field(EvaluationSection(), description="Hallucination before and after.")
    benchmark: BenchmarkSection = Field(BenchmarkSection(), description="Public benchmarks.")
    export: ExportSection = Field(ExportSection(), description="Pairs for other tools.")
    edge: EdgeSection = Field(EdgeSection(), description="Exports for laptops and phones.")
    engine: EngineSection = Field(EngineSection(), description="Serving of the models with vLLM.")

    @property
    def averaged_rounds(self) -> range:
        """The rounds whose policies' weights are averaged; empty without an average."""
        return range(max(1, self.rounds - self.average_last + 1), self.rounds + 1)

    @model_validator(mode="after")
    def _policy_is_local(self) -> Self:
        if self.policy.endpoint is not None:
            raise ValueError("policy.endpoint is set, but the policy is trained here; only the labeler can be remote")
        for name in ("chat_template_kwargs", "max_pixels", "quantization"):
            if getattr(self.policy, name):
                raise ValueError(
                    f"policy.{name} is set, but the policy is trained without it; it is for the labeler, the splitter "
                    "and the rater"
                )
        return self


class VariantSection(Section):
    """One row of a table of ablations."""

    config: str | None = Field(None, description="Configuration that is changed; null = `config` of the table.")
    set: list[str] = Field([], description="Changed values, each as section.key=value.")
    rounds: bool = Field(False, description="Run `make rounds` in place of one round.")


class AblationsConfig(Section):
    """Settings of `make ablations`: runs that differ in one thing each."""

    config: str = Field(description="Configuration that the variants change.")
    seed: int = Field(0, ge=0, description="Seed of every run.")
    variants: dict[str, VariantSection] = Field(
        min_length=1, description="The variants by name, which is also the name of the run folder."
    )


class CaptionsSection(Section):
    """Images with raw captions."""

    path: str = Field(description="Parquet file, or folder of parquet files.")
    image_column: str = Field("image", description="Column with the image.")
    caption_column: str = Field("caption", description="Column with the raw caption.")
    limit: int | None = Field(None, ge=1, description="Use only the first `limit` captions; null = all.")


class RewriteSection(Section):
    """How captions are rewritten, and the rules by which a rewritten caption is kept."""

    prompt: str | None = Field(
        None, description="Text file with the prompt of the rewriter; null = generation/rewrite.txt."
    )
    max_tokens: int = Field(512, ge=1, description="Longest question and rewritten caption, in tokens.")
    min_fluency: float = Field(
        -1.0, le=0, description="Least mean log-probability of the caption's tokens under the rewriter."
    )
    max_repetition: float = Field(
        0.3, ge=0, le=1, description="Largest share of four-word sequences that occur earlier in the caption."
    )
    min_words: int = Field(3, ge=1, description="Least number of words.")
    max_words: int = Field(200, ge=1, description="Largest number of words.")
    min_length_ratio: float = Field(0.2, ge=0, description="Least number of words per word of the raw caption.")
    max_length_ratio: float = Field(3.0, gt=0, description="Largest number of words per word of the raw caption.")
    max_invented: float = Field(
        0.1, ge=0, le=1, description="Largest share of content words that the raw caption has in no spelling."
    )
    max_edits_per_character: float = Field(
        0.34, ge=0, lt=1, description="Most edits per character between two spellings of the same word."
    )


class RewriteConfig(Section):
    """Settings of `make rewrite-captions`. Paths are relative to the current directory."""

    seed: int = Field(0, ge=0, description="Seed of the engine.")
    rewriter: ModelSection = Field(description="The language model that rewrites.")
    captions: CaptionsSection = Field(description="Images with raw captions.")
    rewrite: RewriteSection = Field(RewriteSection(), description="Prompt and rules.")
    edge: EdgeSection = Field(EdgeSection(), description="Exports for laptops and phones.")
    engine: EngineSection = Field(EngineSection(), description="Serving of the rewriter with vLLM.")


AnyConfig = TypeVar("AnyConfig", bound=Section, default=Config)
