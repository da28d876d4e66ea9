"""Align the policy of a run with its pairs by direct preference optimization (DPO, arXiv 2305.18290).

    make dpo CONFIG=configs/demo.yaml RUN=runs/demo

Reads the columns pair_id, images, prompt, chosen, rejected and split of `pairs`: split `train` is trained on, and
`validation` is evaluated if dpo.trainer.eval_strategy is set. Writes

    policy/       the aligned model in the released layout, which vLLM can serve
    dpo/          checkpoints, log.json (losses, rewards and margins as TRL logs them), with LoRA also adapter/
    dropped       unusable pairs, with their reason
    metrics.json  section `dpo`

A killed stage resumes from the last checkpoint. The reference is always `policy` of the configuration.
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rlaif.config import Config
from rlaif.imports import gc_paused
from rlaif.inference.revision import pin_model
from rlaif.storage.files import write_json
from rlaif.storage.run import Run
from rlaif.storage.tables import answers_are_cut, has_prompts_of

if TYPE_CHECKING:
    from trl import DPOConfig

    from dpo.trainer import PairTrainer


def align(config: Config, path: Path) -> None:
    """Run the stage. Errors: RlaifError for anything that the user can fix."""
    run_dpo(Run(path, config, "dpo"))


def run_dpo(run: Run) -> None:
    """Train, and write `policy`. Errors: RlaifError."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports each training to the hub otherwise
    policy, revision = pin_model(run.config.policy)  # reports a folder without a model before the slow imports
    config = run.config = run.config.model_copy(update={"policy": policy})
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
    """Train on the usable pairs, check that the reference stayed as it was, and save the policy."""
    with gc_paused():
        from dpo.pair_reader import locate_pairs
        from dpo.policy import load_collator, save_policy
        from dpo.trainer import build_trainer, groups_pairs, reference_parameters
        from model.parts import fingerprint, parameter_counts
        from model.transformers_private import last_complete_checkpoint

    config = run.config
    collator = load_collator(config.policy, config.dpo, args.max_length, answers_are_cut(run))
    grouped = groups_pairs(config, collator)
    beforehand = args.precompute_ref_batch_size or args.per_device_train_batch_size  # training has a sampler
    pairs = locate_pairs(run, "train", collator, beforehand if grouped else None)
    validation = None
    if args.do_eval:
        validation = locate_pairs(run, "validation", collator, args.per_device_eval_batch_size if grouped else None)
    trainer = build_trainer(config, args, collator, run.path / "pairs.parquet", pairs, validation)
    parts = parameter_counts(trainer.model)
    checkpoint = last_complete_checkpoint(run.path / "dpo")
    run.announce(
        f"aligns {config.policy.model} with {len(pairs):,} pairs",
        f"method {config.dpo.method}, loss {' + '.join(args.loss_type)}, beta {args.beta}",
        *(f"{part}: {trained:,} of {total:,} parameters train" for part, (trained, total) in parts.items()),
        f"resumes from {checkpoint}" if checkpoint else f"checkpoints and log in {args.output_dir}",
    )
    reference = fingerprint(reference_parameters(trainer))
    trainer.train(resume_from_checkpoint=checkpoint)
    assert fingerprint(reference_parameters(trainer)) == reference, "the reference changed during training"

    record_training(run, trainer, len(pairs), sum(trained for trained, _ in parts.values()))
    model = trainer.accelerator.unwrap_model(trainer.model)
    if config.dpo.method == "lora":
        model.save_pretrained(run.path / "dpo" / "adapter")
        model = model.merge_and_unload()
    save_policy(model, collator, config.policy, run.path / "policy")
    shutil.rmtree(run.path / "dpo" / "cache")
    following = "evaluate" if has_prompts_of(run, config.evaluation.split) else "report"
    run.finish({"pairs": len(pairs)}, f"make {following} RUN={run.path}, with the same CONFIG and SET")


def record_training(run: Run, trainer: "PairTrainer", pairs: int, trained_parameters: int) -> None:
    """Write log.json, one object per logging step, and the first and last figures to metrics.json."""
    history = trainer.state.log_history
    write_json(run.path / "dpo" / "log.json", history)
    logged = [entry for entry in history if "loss" in entry]  # without evaluations and the summary at the end
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
