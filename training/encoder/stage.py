"""The stage before pre-training 1: the vision encoder learns which short texts are true of a picture.

    make encoder
    python -m training.encoder --config configs/training/encoder.yaml --run runs/training/start

trains the vision encoder and the resampler's `kv_proj` with SigLIP's sigmoid loss (training.encoder.scores) on the
tables that `data` names (columns: training.encoder.pictures) and writes to the run folder

    model/            the model in the released layout, which `model` of pre-training 1 names
    training/         checkpoints, log.json (what Trainer logs)
    dropped           rows that cannot be trained on, with the reason; row_id is file:row
    training.json     the settings, and whether the stage has finished
    metrics.json      section `training`

A stopped stage resumes from its last checkpoint when the same command is run again.
"""

from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from model.parts import parameter_counts
from model.transformers_private import last_complete_checkpoint
from rlaif.config import EncoderConfig
from rlaif.processes import check_checkpoint, on_first_process, record_processes, use_of_processes
from rlaif.storage.files import write_json
from rlaif.storage.run import Run
from training.encoder.trainer import EncoderTrainer, build_trainer, training_arguments
from training.stage import RESULT_FIELDS, keep_model
from training.start import check_model, hash_tables

STAGE = "encoder"


def train(config: EncoderConfig, path: Path) -> None:
    """Run the stage. Errors: RlaifError for anything that the user can fix."""
    args = training_arguments(config, path / "training")
    run = Run(path, config, "training")
    start = on_first_process(args, lambda: begin(run, args))
    if start is None:
        return
    revision, checkpoint = start
    if not Path(config.model).is_dir():  # the hub may have a newer commit by now
        run.config = config = config.model_copy(update={"revision": revision})
    trainer = build_trainer(config, args)
    if trainer.is_world_process_zero():
        drop_rows(run, trainer)
        announce(run, trainer, checkpoint)
        record_processes(path / "training", args)
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.is_world_process_zero():
        finish(run, trainer)


def begin(run: Run[EncoderConfig], args: TrainingArguments) -> tuple[str, str | None] | None:
    """Check the inputs and bind the run folder to them. Returns the revision of the start model and the checkpoint to
    resume from; None if the stage has finished already. Errors: RlaifError.
    """
    revision = check_model(run.config)
    settings = {**settings_of(run.config, args), "model_revision": revision}
    if not run.begin(["model"], settings, inputs=[]):
        return None
    folder = run.path / "training"
    checkpoint = last_complete_checkpoint(folder)
    check_checkpoint(folder, checkpoint, args)
    return revision, checkpoint


def settings_of(config: EncoderConfig, args: TrainingArguments) -> dict[str, Any]:
    """All that determines the weights: the content of the tables, the optimizer. Errors: InputError."""
    values = args.to_dict()
    return {
        "stage": STAGE,
        **config.model_dump(exclude={"revision", "trainer"}),
        "data_sha256": hash_tables(config.data),
        "trainer": {key: values[key] for key in RESULT_FIELDS},
    }


def drop_rows(run: Run[EncoderConfig], trainer: EncoderTrainer) -> None:
    """Record the rows that cannot be trained on."""
    for path, drops in trainer.train_dataset.drops.items():
        for drop in drops:
            run.drop(f"{path}:{drop.row}", drop.reason, drop.detail)


def announce(run: Run[EncoderConfig], trainer: EncoderTrainer, checkpoint: str | None) -> None:
    """Print what the stage is about to do."""
    pictures = trainer.train_dataset
    dropped = sum(map(len, pictures.drops.values()))
    lines = [
        f"{STAGE}, initialized from {run.config.model}",
        f"{len(pictures):,} pictures, {pictures.num_texts:,} different texts; {dropped:,} rows dropped",
    ]
    for part, (trained, total) in parameter_counts(trainer.whole_model).items():
        lines.append(f"{part}: {trained:,} of {total:,} parameters train")
    lines.append(f"resumes from {checkpoint}" if checkpoint else f"checkpoints and log in {trainer.args.output_dir}")
    if shared := use_of_processes(trainer.args, "pictures"):
        lines.append(shared)
    run.announce(*lines)


def finish(run: Run[EncoderConfig], trainer: EncoderTrainer) -> None:
    """Save the model, check that frozen parts did not change, and write log and metrics."""
    saved, model = run.path / "training" / "model", trainer.whole_model
    model.save_pretrained(saved)
    trainer.processor.save_pretrained(saved)
    keep_model(run, saved, model, trainer.processor)
    history, pictures = trainer.state.log_history, len(trainer.train_dataset)
    write_json(run.path / "training" / "log.json", history)
    last = next((entry for entry in reversed(history) if "loss" in entry), {})
    run.update_metrics(
        training={
            "stage": STAGE,
            "rows": pictures,
            "texts": trainer.train_dataset.num_texts,
            "steps": trainer.state.global_step,
            "last_loss": last.get("loss"),
            "last_recall": last.get("recall"),
        }
    )
    run.finish({"rows": pictures}, next_command(run.path))


def next_command(run: Path) -> str:
    """The command of pre-training 1, from the model of this run."""
    if run == Path("runs", "training", "start"):  # which its configuration names
        return "make pretrain STAGE=1"
    return f'make pretrain STAGE=1 SET="model={run / "model"}"'
