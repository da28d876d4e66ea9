"""Aligns the policy of a run with its pairs by direct preference optimisation (DPO, arXiv 2305.18290).

    make dpo CONFIG=configs/demo.yaml RUN=runs/demo

reads `pairs` (pair_id, images, prompt, chosen, rejected, split: `train` is trained on, `validation` is evaluated where
dpo.trainer.eval_strategy asks for it), and writes

    policy/       the aligned model in the released layout, which vLLM serves as it is
    dpo/          checkpoints, log.json (losses, rewards and margins as TRL logs them), for LoRA also adapter/
    dropped       pairs that teach nothing, with the reason
    metrics.json  section `dpo`

Killed and started again, it goes on from the last checkpoint. The reference is always `policy` of the configuration.
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rlaif.config import Config
from rlaif.errors import InputError
from rlaif.imports import gc_paused
from rlaif.inference.revision import model_revision, pin_revision
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DPOConfig

    from dpo.collator import Collator
    from dpo.trainer import PairTrainer


def align(config: Config, path: Path) -> None:
    """The stage. Errors: RlaifError for whatever the user can put right."""
    run_dpo(Run(path, config, "dpo"))


def run_dpo(run: Run) -> None:
    """Makes `policy`. Errors: RlaifError."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports each training to the hub otherwise
    policy = pin_revision(run.config.policy)
    config = run.config = run.config.model_copy(update={"policy": policy})
    revision = model_revision(policy)  # a folder that is no model is found before the slow imports
    with gc_paused():
        from dpo.arguments import trainer_arguments
        from dpo.policy import check_policy

    args = trainer_arguments(config, run.path / "dpo")
    check_policy(config)
    settings = {
        "seed": config.seed,
        "policy": {**config.policy.identity(), "revision": revision},
        "dpo": config.dpo.model_dump(),
    }
    if run.begin(["policy"], settings, inputs=["pairs"]):
        train(run, args)


def train(run: Run, args: "DPOConfig") -> None:
    with gc_paused():
        from dpo.policy import load_collator, save_policy
        from dpo.trainer import build_trainer, reference_parameters
        from model.checkpoint import fingerprint, last_complete_checkpoint
        from model.parts import parameter_counts

    config = run.config
    collator = load_collator(config.policy, config.dpo, args.max_length)
    pairs = read_pairs(run, "train", collator)
    validation = read_pairs(run, "validation", collator) if args.do_eval else None
    trainer = build_trainer(config, args, collator, pairs, validation)
    parts = parameter_counts(trainer.model)
    checkpoint = last_complete_checkpoint(run.path / "dpo")
    run.announce(
        f"aligns {config.policy.model} with {len(pairs):,} pairs",
        f"method {config.dpo.method}, loss {' + '.join(args.loss_type)}, beta {args.beta}",
        *(f"{part}: {trained:,} of {total:,} parameters train" for part, (trained, total) in parts.items()),
        f"goes on from {checkpoint}" if checkpoint else f"checkpoints and log in {args.output_dir}",
    )
    reference = fingerprint(reference_parameters(trainer))
    trainer.train(resume_from_checkpoint=checkpoint)
    assert fingerprint(reference_parameters(trainer)) == reference, "the reference moved during training"

    record_training(run, trainer, len(pairs), sum(trained for trained, _ in parts.values()))
    model = trainer.accelerator.unwrap_model(trainer.model)
    if config.dpo.method == "lora":
        model.save_pretrained(run.path / "dpo" / "adapter")
        model = model.merge_and_unload()
    save_policy(model, collator, config.policy, run.path / "policy")
    shutil.rmtree(run.path / "dpo" / "cache")
    run.finish({"pairs": len(pairs)}, f"make evaluate RUN={run.path}")


def read_pairs(run: Run, split: str, collator: "Collator") -> "Dataset":
    """The usable pairs of a split, on disk and with encoded images; the others are dropped with their reason."""
    from datasets import Dataset, Features, Image, List, Value

    if next(read_rows(run, "pairs", ["pair_id"], {"split": split}), None) is None:
        raise InputError(f"{run.path}/pairs.parquet has no pairs of split {split!r}; make a run with more prompts")
    messages = List({"role": Value("string"), "content": Value("string")})
    columns = {"pair_id": Value("string"), "images": List(Image(decode=False))}
    columns |= dict.fromkeys(["prompt", "chosen", "rejected"], messages)
    pairs = Dataset.from_parquet(
        str(run.path / "pairs.parquet"),
        features=Features(columns),
        columns=list(columns),
        filters=[("split", "==", split)],
        cache_dir=str(run.path / "dpo" / "cache"),
    )
    kept, problems = [], []
    for index, row in enumerate(pairs):
        if problem := collator.unusable(row):
            problems.append(problem)
            run.drop(row["pair_id"], *problem)
        else:
            kept.append(index)
    if not kept:
        raise InputError(f"none of the {len(pairs)} pairs of split {split!r} can be used: {': '.join(problems[0])}")
    return pairs.select(kept)


def record_training(run: Run, trainer: "PairTrainer", pairs: int, trained_parameters: int) -> None:
    """log.json: what TRL logged, one object a logging step; metrics.json: how training began and how it ended."""
    from rlaif.trainer import write_log

    history = trainer.state.log_history
    write_log(run.path / "dpo" / "log.json", history)
    logged = [entry for entry in history if "loss" in entry]  # not the summary of the whole, nor evaluations
    run.update_metrics(
        dpo={
            "pairs": pairs,
            "steps": trainer.state.global_step,
            "trained_parameters": trained_parameters,
            "first_sigmoid_loss": logged[0]["sigmoid_loss"],
            "last_loss": logged[-1]["loss"],
            "last_margin": logged[-1]["rewards/margins"],
        }
    )
