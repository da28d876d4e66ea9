"""What training starts from: a MiniCPM-V and its tables. For the stages of the paper and for the encoder alone."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedConfig

from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from rlaif.config import EncoderConfig, TrainingConfig
from rlaif.errors import InputError, ModelError
from rlaif.inference.revision import model_revision
from rlaif.storage.files import sha256_of


def check_model(config: TrainingConfig | EncoderConfig, if_missing: str = "") -> str:
    """The revision of the model that training starts from.

    Args:
        if_missing: ends the error where there is no such folder, with what to do.

    Errors: ModelError if the model is missing or of another type.
    """
    folder = Path(config.model)
    try:
        revision = model_revision(config.start)
    except ModelError as error:
        hint = "" if folder.is_dir() else if_missing
        if (folder / "model").is_dir():
            hint = f"; set `model` to {folder / 'model'}"
        raise ModelError(f"{error}{hint}") from error
    pinned = config.revision if folder.is_dir() else revision
    values, _ = PreTrainedConfig.get_config_dict(config.model, revision=pinned)
    kind = values.get("model_type")
    if kind != MiniCPMVConfig.model_type:
        raise ModelError(
            f"{config.model} is a model of type {kind!r}; only MiniCPM-V ({MiniCPMVConfig.model_type!r}) is trained "
            "here; set `model` to one"
        )
    return revision


def hash_tables(paths: Sequence[str]) -> dict[str, str]:
    """The path of each table -> the SHA-256 of its file. Errors: InputError if one is missing."""
    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"no training table {path}; `data` takes parquet files")
    return {path: sha256_of(Path(path)) for path in paths}


def read_model(
    config: TrainingConfig | EncoderConfig, slicing: bool
) -> tuple[MiniCPMVForConditionalGeneration, MiniCPMVProcessor]:
    """The model in float32 and its processor, both with the resolution of `config` and with slices or without.

    Errors: ModelError.
    """
    try:
        processor = MiniCPMVProcessor.from_pretrained(config.model, revision=config.revision)
        model = MiniCPMVForConditionalGeneration.from_pretrained(
            config.model, revision=config.revision, use_safetensors=True, dtype="float32"
        )
    except (ValueError, OSError) as error:
        raise ModelError(" ".join(str(error).split())) from error
    model.config.image_token_id = processor.image_token_id  # released configurations do not have it
    images = processor.image_processor
    images.slice_mode = model.config.slice_mode = slicing
    if config.scale_resolution is not None:
        images.scale_resolution = model.config.image_size = config.scale_resolution
    return model, processor
