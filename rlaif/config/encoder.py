"""Settings of the training of the vision encoder on pictures and short texts, before pre-training 1."""

from typing import Any

from pydantic import Field

from rlaif.config.models import ModelSection, Section


class EncoderConfig(Section):
    """Settings of `make encoder`: the vision encoder learns which short texts are true of a picture. Paths are relative
    to the current directory.
    """

    seed: int = Field(
        0,
        ge=0,
        description="Seed of the order of pictures, of dropout, and of the sample of pictures for whiten_patches.",
    )
    model: str = Field(
        min_length=1, description="The model whose vision encoder trains: a folder in the released layout, or a hub id."
    )
    revision: str | None = Field(
        None, description="Commit, tag or branch of a hub model; null = the newest commit, which is recorded."
    )
    data: list[str] = Field(
        min_length=1, description="Tables of pictures with texts, which are parquet files with columns image and texts."
    )
    whiten_patches: bool = Field(
        False,
        description="Start the patch embedding from the whitened principal components of the patches of the tables; "
        "for an untrained encoder only, as a trained one would lose what it has learned.",
    )
    scale_resolution: int | None = Field(
        None, ge=1, description="Side, in pixels, of the square that has the area of a picture; null = the model's."
    )
    trainer: dict[str, Any] = Field(
        {},
        description="Arguments of transformers' TrainingArguments, such as learning_rate and num_train_epochs; an "
        "unknown one is an error.",
    )

    @property
    def start(self) -> ModelSection:
        """The model that training starts from, as other stages name one."""
        return ModelSection(model=self.model, revision=self.revision, dtype="float32")
