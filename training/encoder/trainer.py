"""The Trainer of the vision encoder: its arguments, the parts that train, the pictures."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainingArguments, set_seed

from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from rlaif.config import EncoderConfig
from rlaif.errors import ConfigError
from rlaif.processes import sharding
from rlaif.trainer import LOGGED, parse_trainer_arguments, report_as_text
from training.attention import set_vision_attention
from training.encoder.pictures import Collator, Pictures, SimilarSizes
from training.encoder.scores import TextScorer, text_vectors
from training.encoder.whitening import whiten_patches
from training.start import read_model

REFUSED = {
    "output_dir": "checkpoints are in the run folder, under training/",
    "seed": "set the top-level `seed`",
    "resume_from_checkpoint": "run the same command again, it resumes from the last checkpoint",
    "remove_unused_columns": "pictures have no other columns",
    "train_sampling_strategy": "batches are of pictures of about the same size",
    "label_smoothing_factor": "the loss is SigLIP's",
    "eval_strategy": "there are no pictures for validation; the log has the recall of each step",
    "eval_on_start": "there are no pictures for validation; the log has the recall of each step",
    "gradient_checkpointing": "the encoder does not support it; lower per_device_train_batch_size",
    "neftune_noise_alpha": "its noise is for embeddings of a language model, which does not run here",
}


def training_arguments(config: EncoderConfig, output_dir: Path) -> TrainingArguments:
    """The defaults of transformers, overridden by ours, overridden by `trainer` of the configuration.

    Errors: ConfigError for a key that TrainingArguments does not have or that is not set here, or a value of the wrong
    type; for weights that are divided over processes.
    """
    defaults = {
        "output_dir": str(output_dir),
        "seed": config.seed,
        "report_to": "none",
        "remove_unused_columns": False,
    }
    args = parse_trainer_arguments(TrainingArguments, "trainer", config.trainer, defaults, REFUSED)
    if sharding(args) != "ddp":
        raise ConfigError(
            f"sharding is {sharding(args)}, but the encoder alone trains, of which each process has a copy; use "
            "SHARDING=ddp"
        )
    return args


class EncoderTrainer(Trainer):
    """Trainer that logs the share of true texts found beside the loss, with batches of similar sizes."""

    whole_model: MiniCPMVForConditionalGeneration  # of which `model` trains parts
    processor: MiniCPMVProcessor
    train_dataset: Pictures

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.recalls: list[torch.Tensor] = []  # of each step since the last entry of the log

    def _get_train_sampler(self, train_dataset: Any = None) -> SimilarSizes:
        """Trainer offers random and sequential orders only."""
        return SimilarSizes(self.train_dataset, self._train_batch_size * self.args.world_size, self.args.seed)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Trainer knows biases by their names, but not a temperature."""
        return [name for name in super().get_decay_parameter_names(model) if not name.endswith("log_scale")]

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        outputs = model(**inputs)
        self.recalls.append(outputs["recall"])
        loss: torch.Tensor = outputs["loss"]
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean since the last entry, the temperature and the bias."""
        if "loss" in logs and self.recalls:
            scorer: Any = self.accelerator.unwrap_model(self.model)
            logs["recall"] = torch.stack(self.recalls).mean().item()
            self.recalls.clear()
            logs["scale"], logs["bias"] = scorer.log_scale.exp().item(), scorer.score_bias.item()
        super().log(logs, start_time)


def build_trainer(config: EncoderConfig, args: TrainingArguments) -> EncoderTrainer:
    """The trainer, ready to train.

    Errors: ModelError if the model cannot be loaded; InputError if a table cannot be read, or no row is usable;
    ConfigError if its patches cannot be whitened.
    """
    set_seed(config.seed)
    model, processor = load_model(config)
    pictures = Pictures(config.data, processor)
    images = processor.image_processor
    if config.whiten_patches:
        whiten_patches(model.model.vision_model, pictures, images.norm_mean, images.norm_std, config.seed)
    vectors = text_vectors(model.get_input_embeddings().weight.detach(), pictures.texts.ids)
    set_vision_attention(model.model.vision_model, args)
    trainer = EncoderTrainer(
        model=TextScorer(model, vectors),
        args=args,
        data_collator=Collator(images.norm_mean, images.norm_std),
        train_dataset=pictures,
    )
    trainer.whole_model, trainer.processor = model, processor
    report_as_text(trainer, {**LOGGED, "recall": "recall of texts"})
    return trainer


def load_model(config: EncoderConfig) -> tuple[MiniCPMVForConditionalGeneration, MiniCPMVProcessor]:
    """The model, of which only the vision encoder and `kv_proj` train, and the processor, which cuts no slices.

    Errors: ModelError.
    """
    model, processor = read_model(config, slicing=False)
    model.requires_grad_(False)
    model.model.vision_model.requires_grad_(True)
    model.model.resampler.kv_proj.requires_grad_(True)
    return model, processor
