"""Align the policy of a run with its pairs by direct preference optimization (DPO, arXiv 2305.18290).

    make dpo CONFIG=configs/demo.yaml RUN=runs/demo
    make dpo CONFIG=configs/demo.yaml RUN=runs/demo PROCESSES=8

Reads the columns pair_id, images, prompt, chosen, rejected and split of `pairs`: split `train` is trained on, and
`validation` is evaluated if dpo.trainer.eval_strategy is set. Writes

    policy/       the aligned model in the released layout, which vLLM can serve
    dpo/          checkpoints, log.json (losses, rewards and margins as TRL logs them), with LoRA also adapter/
    dropped       unusable pairs, with their reason
    metrics.json  section `dpo`

A killed stage resumes from the last checkpoint. The reference is always `policy` of the configuration. Of several
processes the first one holds the run folder: it checks, drops, logs and saves.
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaif.config import Config, ModelSection
from rlaif.imports import gc_paused
from rlaif.inference.revision import pin_model
from rlaif.storage.files import write_json
from rlaif.storage.run import Run
from rlaif.storage.tables import answers_are_cut, has_prompts_of

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DPOConfig

    from dpo.collator import Collator
    from dpo.trainer import PairTrainer


def align(config: Config, path: Path) -> None:
    """Run the stage. Errors: RlaifError for anything that the user can fix."""
    run_dpo(Run(path, config, "dpo"))


def run_dpo(run: Run) -> None:
    """Train, and write `policy`. Errors: RlaifError."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports each training to the hub otherwise
    policy, _ = pin_model(run.config.policy)  # reports a folder without a model before the slow imports
    with gc_paused():
        from dpo.arguments import trainer_arguments
        from dpo.policy import check_policy
        from rlaif.processes import on_first_process

    # by all processes, and before the arguments, which for ZeRO-3 distribute every model that is built
    check_policy(run.config.model_copy(update={"policy": policy}))
    args = trainer_arguments(run.config, run.path / "dpo")
    start = on_first_process(args, lambda: begin(run, args))
    if start is not None:
        policy, checkpoint = start
        run.config = run.config.model_copy(update={"policy": policy})
        train(run, args, checkpoint)


def begin(run: Run, args: "DPOConfig") -> tuple[ModelSection, str | None] | None:
    """Check the inputs and bind the run folder to them. Returns the policy at its exact revision and the checkpoint to
    resume from; None if the stage has finished already. Errors: RlaifError.
    """
    from model.transformers_private import last_complete_checkpoint
    from rlaif.processes import check_checkpoint

    policy, revision = pin_model(run.config.policy)
    config = run.config = run.config.model_copy(update={"policy": policy})
    check_memory(config, args)
    settings = {
        "seed": config.seed,
        "policy": {**config.policy.identity(), "revision": revision},
        "dpo": config.dpo.model_dump(exclude={"cache_vision"}),  # it changes no result
    }
    if not run.begin(["policy"], settings, inputs=["pairs"]):
        return None
    checkpoint = last_complete_checkpoint(run.path / "dpo")
    check_checkpoint(run.path / "dpo", checkpoint, args)
    return policy, checkpoint


def check_memory(config: Config, args: "DPOConfig") -> None:
    """Errors: ConfigError for a training that cannot fit the GPU of this process, with what to change. Not with ZeRO-3,
    which would distribute the models without memory that are built here.
    """
    import torch

    from rlaif.processes import sharding

    if not torch.cuda.is_available() or sharding(args) == "zero3":
        return
    from rlaif.memory.settings import Cures, check_card, dpo_step, dpo_training
    from rlaif.memory.shapes import shape_of

    shared, lora = sharding(args), config.model_copy(update={"dpo": config.dpo.model_copy(update={"method": "lora"})})
    step, training = dpo_step(config, args), dpo_training(config, args, args.world_size, shared)
    cures = Cures("dpo.trainer.", step, dpo_training(lora, args, args.world_size, shared))
    check_card(shape_of(config.policy), training, step, cures)


def train(run: Run, args: "DPOConfig", checkpoint: str | None) -> None:
    """Train on the usable pairs, check that the reference stayed as it was, and save the policy."""
    with gc_paused():
        from dpo.pair_reader import locate_pairs
        from dpo.policy import load_collator
        from dpo.trainer import build_trainer, groups_pairs, reference_parameters, whole_model
        from model.parts import fingerprint, parameter_counts
        from rlaif.processes import on_first_process, record_processes, use_of_processes

    config = run.config
    collator = load_collator(config.policy, config.dpo, args.max_length, answers_are_cut(run))
    beforehand = args.precompute_ref_batch_size or args.per_device_train_batch_size  # training has a sampler
    batches = {"train": beforehand} | ({"validation": args.per_device_eval_batch_size} if args.do_eval else {})

    def locate() -> dict[str, "Dataset"]:
        grouped = groups_pairs(config, collator)
        return {split: locate_pairs(run, split, collator, size if grouped else None) for split, size in batches.items()}

    located = on_first_process(args, locate)
    pairs = located["train"]
    trainer = build_trainer(config, args, collator, run.path / "pairs.parquet", pairs, located.get("validation"))
    parts = parameter_counts(trainer.model)
    reference = fingerprint(reference_parameters(trainer))
    if trainer.is_world_process_zero():
        run.announce(
            f"aligns {config.policy.model} with {len(pairs):,} pairs",
            f"method {config.dpo.method}, loss {' + '.join(args.loss_type)}, beta {args.beta}",
            *(f"{part}: {trained:,} of {total:,} parameters train" for part, (trained, total) in parts.items()),
            f"resumes from {checkpoint}" if checkpoint else f"checkpoints and log in {args.output_dir}",
            *filter(None, [use_of_processes(args, "pairs")]),
        )
        record_processes(run.path / "dpo", args)
    trainer.train(resume_from_checkpoint=checkpoint)
    assert fingerprint(reference_parameters(trainer)) == reference, "the reference changed during training"

    model = whole_model(trainer, config)
    if model is not None:  # on the first process
        record_training(run, trainer, len(pairs), sum(trained for trained, _ in parts.values()))
        finish(run, model, collator, len(pairs))


def finish(run: Run, model: Any, collator: "Collator", pairs: int) -> None:
    """Write the policy, with LoRA also its adapter. model: the trained one, with LoRA a PeftModel.

    After training on 4-bit weights, the adapter is merged into those that they were made of.
    """
    from peft import PeftModel

    from dpo.policy import load_policy, save_policy

    config = run.config
    if config.dpo.method == "lora":
        adapter = run.path / "dpo" / "adapter"
        model.save_pretrained(adapter)
        if config.dpo.quantization is not None:
            model = PeftModel.from_pretrained(load_policy(config.policy, trains=False), str(adapter))
        model = model.merge_and_unload()
    save_policy(model, collator, config.policy, run.path / "policy")
    shutil.rmtree(run.path / "dpo" / "cache")
    following = "evaluate" if has_prompts_of(run, config.evaluation.split) else "report"
    run.finish({"pairs": pairs}, f"make {following} RUN={run.path}, with the same CONFIG and SET")


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
