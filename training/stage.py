"""One stage of MiniCPM-V's training: pre-training 1, 2 or 3, supervised fine-tuning 1 or 2, or a later fine-tuning.

    make pretrain STAGE=1    make sft PART=1
    python -m training --config configs/training/pretrain-1.yaml --run runs/training/pretrain-1

reads the training tables that `data` names (columns: training.conversations) and writes to the run folder

    model/            the model in the released layout, which `model` of the next stage names
    training/         checkpoints, log.json (what Trainer logs)
    dropped           rows that cannot be trained on, with the reason; row_id is file:row
    training.json     the settings, and whether the stage has finished
    metrics.json      section `training`

A stopped stage resumes from its last checkpoint when the same command is run again. With PROCESSES=8 it trains on many
GPUs: the first process owns the run folder, the others wait for it.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainingArguments

from model.modeling import released_name
from model.parts import moved_tensors, parameter_counts
from model.transformers_private import last_complete_checkpoint
from rlaif.config import TrainingConfig
from rlaif.errors import ModelError
from rlaif.memory.settings import Cures, check_card, stage_step, stage_training
from rlaif.memory.shapes import shape_of
from rlaif.processes import check_checkpoint, on_first_process, record_processes, sharding, use_of_processes
from rlaif.storage.files import read_json, write_json
from rlaif.storage.model_folder import complete_model
from rlaif.storage.run import Run
from training.paper_stages import STAGES, next_command
from training.start import check_model, hash_tables
from training.trainer import LENGTHS, StageTrainer, build_trainer, training_arguments

# fields of TrainingArguments that determine the weights; the others may change when a stage is resumed
RESULT_FIELDS = (
    "seed", "data_seed", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps",
    "num_train_epochs", "max_steps", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm",
    "optim", "optim_args", "bf16", "fp16", "label_smoothing_factor", "neftune_noise_alpha",
    "per_device_train_batch_size", "gradient_accumulation_steps",
)  # fmt: skip


def train(config: TrainingConfig, path: Path) -> None:
    """Run the stage. Errors: RlaifError for anything that the user can fix."""
    args = training_arguments(config, path / "training")
    run = Run(path, config, "training")
    start = on_first_process(args, lambda: begin(run, args))
    if start is None:
        return
    revision, checkpoint = start
    if not Path(config.model).is_dir():  # the hub may have a newer commit by now
        run.config = config = config.model_copy(update={"revision": revision})
    trainer = build_trainer(config, args, path / "cache")
    if trainer.is_world_process_zero():
        drop_rows(run, trainer)
        announce(run, trainer, checkpoint)
        record_processes(path / "training", args)
    fit(trainer, checkpoint)
    trainer.save_model(str(path / "training" / "model"))
    if trainer.is_world_process_zero():
        finish(run, trainer)


def begin(run: Run[TrainingConfig], args: TrainingArguments) -> tuple[str, str | None] | None:
    """Check the inputs and bind the run folder to them. Returns the revision of the start model and the checkpoint to
    resume from; None if the stage has finished already. Errors: RlaifError.
    """
    revision = check_start(run.config)
    check_memory(run.config, args)
    settings = {**settings_of(run.config, args), "model_revision": revision}
    if not run.begin(["model"], settings, inputs=[]):
        return None
    folder = run.path / "training"
    checkpoint = last_complete_checkpoint(folder)
    check_checkpoint(folder, checkpoint, args)
    if checkpoint is None:  # other settings may have measured the rows, or images may have been mended since
        for file in (run.path / "cache").glob(f"{LENGTHS}-*"):
            file.unlink()
    return revision, checkpoint


def check_memory(config: TrainingConfig, args: TrainingArguments) -> None:
    """Errors: ConfigError for a training that cannot fit the GPU of this process, with what to change. Not with ZeRO-3,
    which would distribute the models without memory that are built here.
    """
    if torch.cuda.is_available() and sharding(args) != "zero3":
        step, training = stage_step(config, args), stage_training(config, args, args.world_size, sharding(args))
        check_card(shape_of(config.start), training, step, Cures("trainer.", step, None))


def check_start(config: TrainingConfig) -> str:
    """The revision of the model that training starts from.

    Errors: ModelError if it is missing, has another type, or is not from the previous stage of the paper.
    """
    before = None if config.after_any else STAGES[config.stage].after
    revision = check_model(config, f"; to train {before} first: `{STAGES[before].command}`" if before else "")
    written_by = stage_that_wrote(Path(config.model))
    if before and written_by not in (before, config.stage):
        got = f"was written by {written_by}" if written_by else "was not written by a finished stage"
        raise ModelError(
            f"{config.stage} continues from {before}, but {config.model} {got}; train {before} first "
            f"(`{STAGES[before].command}`) and set `model` to its model folder, or set after_any to accept any model"
        )
    return revision


def stage_that_wrote(model: Path) -> str | None:
    """The stage that wrote a model folder, from the record in its run folder; None if there is no record."""
    record = model.resolve().parent / "training.json"
    if model.name != "model" or not record.is_file():
        return None
    marker = read_json(record)
    return str(marker["settings"]["stage"]) if marker["finished"] else None


def settings_of(config: TrainingConfig, args: TrainingArguments) -> dict[str, Any]:
    """All that determines the weights: the stage, the content of its tables, the optimizer. Errors: InputError."""
    values = args.to_dict()
    return {
        **config.model_dump(exclude={"revision", "after_any", "trainer", "attention"}),
        "data_sha256": hash_tables(config.data),
        "trainer": {key: values[key] for key in RESULT_FIELDS},
    }


def drop_rows(run: Run[TrainingConfig], trainer: StageTrainer) -> None:
    """Record the rows that cannot be trained on."""
    for path, table in zip(run.config.data, trainer.train_dataset.tables, strict=True):
        for drop in table.drops:
            run.drop(f"{path}:{drop.row}", drop.reason, drop.detail)


def announce(run: Run[TrainingConfig], trainer: StageTrainer, checkpoint: str | None) -> None:
    """Print what the stage is about to do."""
    config, sequences = run.config, trainer.train_dataset
    lines = [f"{config.stage}, initialized from {config.model}"]
    for path, table in zip(config.data, sequences.tables, strict=True):
        tokens, dropped = sum(table.lengths), len(table.drops)
        lines.append(f"{path}: {len(table):,} rows, {tokens:,} tokens; {dropped:,} rows dropped")
    lines.append(f"{len(sequences):,} sequences, packing {config.packing}; {trainer.attention}")
    if workers := trainer.args.dataloader_num_workers:
        lines.append(f"images are cut in worker processes: {workers}")
    for part, (trained, total) in parameter_counts(trainer.model).items():
        lines.append(f"{part}: {trained:,} of {total:,} parameters train")
    lines.append(f"resumes from {checkpoint}" if checkpoint else f"checkpoints and log in {trainer.args.output_dir}")
    if shared := use_of_processes(trainer.args, "sequences"):
        lines.append(shared)
    run.announce(*lines)


def fit(trainer: StageTrainer, checkpoint: str | None) -> None:
    """Train to the end, without the key-value cache, which packing does not allow."""
    config = trainer.model.config
    use_cache, config.use_cache = config.use_cache, False
    trainer.train(resume_from_checkpoint=checkpoint)
    config.use_cache = use_cache


def finish(run: Run[TrainingConfig], trainer: StageTrainer) -> None:
    """Check that frozen parts did not change, and write model, log and metrics."""
    saved, config = run.path / "training" / "model", run.config
    (saved / "training_args.bin").unlink()  # a pickle; training.json has the settings
    keep_model(run, saved, trainer.model, trainer.processing_class)
    shutil.rmtree(run.path / "cache")
    history, tables = trainer.state.log_history, trainer.train_dataset.tables
    write_json(run.path / "training" / "log.json", history)
    rows = sum(map(len, tables))
    run.update_metrics(
        training={
            "stage": config.stage,
            "rows": rows,
            "sequences": len(trainer.train_dataset),
            "steps": trainer.state.global_step,
            "tokens": trainer.state.num_input_tokens_seen,
            "last_loss": next((entry["loss"] for entry in reversed(history) if "loss" in entry), None),
        }
    )
    run.finish({"rows": rows}, next_command(config.stage, run.path))


def keep_model(run: Run[Any], saved: Path, model: PreTrainedModel, processor: Any) -> None:
    """Check that frozen parts did not change, and move the saved model into its place in the run folder."""
    config = run.config
    frozen = [released_name(name) for name, parameter in model.named_parameters() if not parameter.requires_grad]
    moved = moved_tensors(config.model, config.revision, saved, frozen)
    assert not moved, f"a frozen parameter changed: {moved[0]}"
    complete_model(saved, config.start, processor.tokenizer, processor.end_of_turn)
    shutil.rmtree(run.path / "model", ignore_errors=True)  # from a run that was killed before it finished
    os.replace(saved, run.path / "model")
