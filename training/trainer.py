"""The Trainer of a stage: its arguments, the model with its frozen parts, the sequences, the loss."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments, set_seed

from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from model.parts import PARTS, freeze
from model.transformers_private import ReleasedCheckpoints
from rlaif.config import TrainingConfig
from rlaif.errors import ConfigError, InputError
from rlaif.processes import ShardedTrainer
from rlaif.trainer import LOGGED, parse_trainer_arguments, report_as_text
from training.attention import Attention, choose_attention, set_attention, set_vision_attention
from training.conversations import Conversations, read_table
from training.loss import answer_weights
from training.packing import Sample, content_tokens, folded_batch, packed_batch
from training.paper_stages import STAGES, order_of
from training.sequences import Sequences
from training.start import read_model

REFUSED = {
    "output_dir": "checkpoints are in the run folder, under training/",
    "seed": "set the top-level `seed`",
    "resume_from_checkpoint": "run the same command again, it resumes from the last checkpoint",
    "remove_unused_columns": "samples have no other columns",
    "train_sampling_strategy": "set `order`",
    "include_num_input_tokens_seen": "tokens are always counted",
    "eval_strategy": "there are no rows for validation; evaluate the model that the stage writes",
    "eval_on_start": "there are no rows for validation; evaluate the model that the stage writes",
    "label_smoothing_factor": "the loss is the plain cross-entropy, which needs no logits of all tokens at once",
}

LENGTHS = "lengths"  # how the names of files begin, in the cache


def training_arguments(config: TrainingConfig, output_dir: Path) -> TrainingArguments:
    """The defaults of transformers, overridden by ours, overridden by `trainer` of the configuration.

    Errors: ConfigError for a key that TrainingArguments does not have or that is not set here, or a value of the wrong
    type.
    """
    defaults = {
        "output_dir": str(output_dir),
        "seed": config.seed,
        "report_to": "none",
        "remove_unused_columns": False,
        "include_num_input_tokens_seen": "non_padding",
        "bf16": config.dtype == "bfloat16",  # matrices in bfloat16 take no other states
        "train_sampling_strategy": "random" if order_of(config) == "mixed" else "sequential",
    }
    arguments = parse_trainer_arguments(TrainingArguments, "trainer", config.trainer, defaults, REFUSED)
    if config.dtype == "bfloat16" and not arguments.bf16:
        raise ConfigError(
            "trainer.bf16 is false, but with dtype bfloat16 the frozen weights are in bfloat16; set trainer.bf16 to "
            "true, or dtype to float32"
        )
    return arguments


class StageTrainer(ReleasedCheckpoints, ShardedTrainer, Trainer):
    """Trainer that counts the tokens of samples, whatever token pads, and normalizes the loss by weights of tokens."""

    model: MiniCPMVForConditionalGeneration
    train_dataset: Sequences
    attention: str  # how it was chosen, in words

    def _track_num_input_tokens(self, inputs: dict[str, torch.Tensor]) -> None:
        """Trainer would count by the attention mask, which a packed batch does not have, or by the pad token, which may
        occur in the text of a released model.
        """
        count = content_tokens(inputs).to(self.args.device)
        self.state.num_input_tokens_seen += self.accelerator.gather(count).sum().item()

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, torch.Tensor]], device: torch.device) -> Any:
        """Trainer counts labels, which is right for a mean over tokens only."""
        if not batch_samples or "loss_weights" not in batch_samples[0]:
            return super()._get_num_items_in_batch(batch_samples, device)
        total = sum(batch["loss_weights"].sum() for batch in batch_samples)
        return self.accelerator.gather(torch.as_tensor(total, device=device)).sum()


@dataclass(frozen=True)
class Collator:
    """Sequences of samples -> a batch. A class, because a worker process that is spawned cannot be sent a closure.

    capacity: tokens of a sequence; None: those of the longest. averaging: as in TrainingConfig.
    """

    capacity: int | None
    pad_token_id: int
    averaging: str
    attention: Attention

    def __call__(self, rows: Sequence[Sequence[Sample]]) -> dict[str, Any]:
        capacity = self.capacity or max(sum(map(len, samples)) for samples in rows)
        batch: dict[str, Any]
        if self.attention == "dense":
            batch = packed_batch(rows, capacity, self.pad_token_id)
        else:  # packed rows have one length, or kernels are compiled again: by FlexAttention, and by oneDNN on a CPU
            fixed = self.attention == "flex" or self.capacity is not None
            batch = folded_batch(rows, self.pad_token_id, len(rows) * capacity if fixed else None)
        return batch if self.averaging == "token" else batch | {"loss_weights": answer_weights(batch["labels"])}


def build_trainer(config: TrainingConfig, args: TrainingArguments, cache: Path | None = None) -> StageTrainer:
    """The trainer of a stage, ready to train.

    Args:
        cache: folder for Arrow copies of the tables, and the lengths of their rows, which are read if they are there.

    Errors: ModelError if the model cannot be loaded; InputError if a table cannot be read, or no row is usable.
    """
    set_seed(config.seed)
    model, processor = load_model(config)
    autocast = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    attention, reason = choose_attention(config.attention, args.device, model.config, autocast, model.dtype)
    set_attention(model, attention)
    set_vision_attention(model.model.vision_model, args)
    sequences = Sequences(load_tables(config, args, processor, cache), config, processor.image_token_id)
    if not len(sequences):
        drops = [drop for table in sequences.tables for drop in table.drops]
        why = f"the first: {drops[0].detail}" if drops else "the tables are empty"
        raise InputError(f"no row of {', '.join(config.data)} can be trained on; {why}")

    capacity = None if config.packing == "none" else config.sequence_length
    trainer = StageTrainer(
        model=model,
        args=args,
        data_collator=Collator(capacity, processor.tokenizer.pad_token_id, config.averaging, attention),
        train_dataset=sequences,
        processing_class=processor,
    )
    trainer.attention = reason
    report_as_text(trainer, LOGGED)
    return trainer


def load_model(config: TrainingConfig) -> tuple[MiniCPMVForConditionalGeneration, MiniCPMVProcessor]:
    """The model with its frozen parts, and the processor with the stage's resolution and slicing.

    Errors: ModelError.
    """
    stage = STAGES[config.stage]
    model, processor = read_model(config, stage.slicing)
    freeze(model, set(PARTS) - set(config.trained))
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, config.dtype))
    return model, processor


def load_tables(
    config: TrainingConfig, args: TrainingArguments, processor: MiniCPMVProcessor, cache: Path | None
) -> list[Conversations]:
    """The training tables, their rows measured by the first process, with all cores of its machine, while the others
    wait. Errors: InputError.
    """
    max_length = None if config.packing == "in_order" else config.sequence_length
    workers = len(os.sched_getaffinity(0))

    def load(number: int, path: str) -> Conversations:
        lengths = cache / f"{LENGTHS}-{number}.parquet" if cache else None
        return Conversations(read_table(path, cache), processor, max_length, Path(path).parent, lengths, workers)

    with args.main_process_first(local=False):  # all machines see the run folder
        return [load(number, path) for number, path in enumerate(config.data)]
