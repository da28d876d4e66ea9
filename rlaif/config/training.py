"""Settings of MiniCPM-V's own training: pre-training, supervised fine-tuning."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rlaif.config.models import ModelSection, Section

StageName = Literal["pretrain-1", "pretrain-2", "pretrain-3", "sft-1", "sft-2", "finetune"]
PartName = Literal["vision", "resampler", "llm"]
TRAINED: dict[StageName, tuple[PartName, ...]] = {  # stage -> the parts that it trains
    "pretrain-1": ("resampler",),
    "pretrain-2": ("vision",),
    "pretrain-3": ("vision", "resampler"),
    "sft-1": ("vision", "resampler", "llm"),
    "sft-2": ("vision", "resampler", "llm"),
    "finetune": ("vision", "resampler", "llm"),
}


class TrainingConfig(Section):
    """Settings of one stage of MiniCPM-V's own training: `make pretrain`, `make sft`, `make rewriter`. Paths are
    relative to the current directory.
    """

    seed: int = Field(0, ge=0, description="Seed of the order of rows, of packing and of dropout.")
    stage: StageName = Field(
        description="Stage of the paper, which decides the parts that train and whether images are sliced; finetune = "
        "any training after them."
    )
    model: str = Field(
        min_length=1,
        description="The model that training starts from: a folder, such as RUN/model of the previous stage, or a hub "
        "id.",
    )
    revision: str | None = Field(
        None, description="Commit, tag or branch of a hub model; null = the newest commit, which is recorded."
    )
    after_any: bool = Field(
        False, description="Accept a model that the previous stage of the paper did not write, such as a released one."
    )
    data: list[str] = Field(min_length=1, description="Training tables, which are parquet files.")
    order: Literal["mixed", "listed"] | None = Field(
        None,
        description="Order of rows. mixed = the rows of all tables shuffled; listed = one table after the other, as "
        "listed in `data`; null = as in the paper, mixed in pre-training and listed in SFT.",
    )
    packing: Literal["in_order", "best_fit", "none"] = Field(
        "in_order",
        description="How samples are packed into sequences. in_order = as in the paper, the last sample of a sequence "
        "is truncated; best_fit = no sample is truncated; none = one sample a sequence.",
    )
    sequence_length: int = Field(
        2048, ge=1, description="Tokens of a packed sequence; without packing, of the longest sample."
    )
    attention: Literal["flex", "split", "dense"] | None = Field(
        None,
        description="How samples of a batch are kept apart; all give the same losses. flex = FlexAttention, compiled, "
        "on GPUs; split = one sample after the other; dense = padded rows and a mask; null = flex where it compiles, "
        "else split.",
    )
    averaging: Literal["token", "square"] = Field(
        "token",
        description="Weights of the loss. token = every token has the same weight; square = a token of an answer of n "
        "tokens has weight 1 / sqrt(n).",
    )
    scale_resolution: int | None = Field(
        None, ge=1, description="Side, in pixels, of the square that has the area of a slice; null = the model's."
    )
    freeze: list[Literal["vision", "resampler", "llm"]] = Field(
        [], description="Parts that stage finetune does not train."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Precision of the frozen weights; those that train are always float32, as bfloat16 would round "
        "most updates away. bfloat16 computes in bfloat16, as trainer.bf16 does over float32 weights.",
    )
    trainer: dict[str, Any] = Field(
        {},
        description="Arguments of transformers' TrainingArguments, such as learning_rate and num_train_epochs; an "
        "unknown one is an error.",
    )

    @property
    def trained(self) -> tuple[PartName, ...]:
        """The parts that train."""
        return tuple(part for part in TRAINED[self.stage] if part not in self.freeze)

    @property
    def start(self) -> ModelSection:
        """The model that training starts from, as other stages name one."""
        return ModelSection(model=self.model, revision=self.revision, dtype=self.dtype)

    @model_validator(mode="after")
    def _freeze_fits_stage(self) -> Self:
        if self.freeze and self.stage != "finetune":
            raise ValueError(
                f"freeze is {self.freeze}, but stage {self.stage} itself decides what trains; remove freeze, or set "
                "stage: finetune"
            )
        if len(set(self.freeze)) == 3:
            raise ValueError(f"freeze has every part ({', '.join(self.freeze)}), so nothing would train; remove one")
        return self
