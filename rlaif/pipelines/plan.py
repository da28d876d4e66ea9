"""Memory and hours of a configuration, reckoned before it runs: what fits the GPU, and what to change.

    make plan CONFIG=configs/minicpmv-2.5.yaml GPU_MEMORY=80
    make plan CONFIG=configs/training/sft-1.yaml PROCESSES=8 SHARDING=fsdp2
    python -m rlaif.pipelines.plan --config configs/minicpmv-2.5.yaml --gpu-memory 80 --set dpo.method=full

Shapes come from each model's config.json; nothing is loaded. The batch is the largest one: every image with all slices,
every answer at full length. The exit status is 2 if a stage does not fit.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import yaml

from rlaif.config import Config, ModelSection, TrainingConfig
from rlaif.config.load import load_config_of
from rlaif.errors import ConfigError, RlaifError

if TYPE_CHECKING:
    from rlaif.memory.card import Card
    from rlaif.memory.settings import Cures
    from rlaif.memory.shapes import Shape
    from rlaif.memory.training import Step, Training
    from rlaif.pipelines.plan_hours import Assumed

# What TRL's DPOConfig and transformers' TrainingArguments have by default; tests/rlaif/pipelines compares them.
DEFAULTS = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "optim": "adamw_torch_fused"}
DPO_DEFAULTS = {**DEFAULTS, "gradient_checkpointing": True, "precompute_ref_log_probs": False, "num_train_epochs": 3}
TRAINING_DEFAULTS = {**DEFAULTS, "gradient_checkpointing": False, "num_train_epochs": 3}
GIB = 2**30


@dataclass
class Plan:
    """Rows of the tables, problems with their cures, and sources of the shapes."""

    serving: list[list[str]] = field(default_factory=list)
    training: list[list[str]] = field(default_factory=list)
    hours: list[list[str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)


def plan_run(config: Config, card: "Card", processes: int, sharding: str, assumed: "Assumed") -> Plan:
    """The stages of a run: generate, feedback, dpo, evaluate. Errors: RlaifError."""
    from rlaif.memory.serving import serving_memory
    from rlaif.memory.settings import Cures, check_four_bits, dpo_step, dpo_training, image_of
    from rlaif.memory.shapes import shape_of
    from rlaif.pipelines.plan_hours import labeling_hours, sampling_hours

    if config.dpo.quantization is not None:
        check_four_bits(sharding)
    plan = Plan()
    policy = shape_of(config.policy)
    plan.sources[policy.name] = policy.source
    slices, patches, tokens = image_of(policy)
    gpus = processes // config.engine.tensor_parallel_size or 1
    stages = [("generate, evaluate", config.policy), ("feedback", config.labeler)]
    if config.splitter is not None:
        stages.append(("feedback, splitting", config.splitter))
    for stage, section in stages:
        if section.endpoint is not None:
            plan.serving.append([stage, section.model, "an endpoint", "", "", "", "yes"])
            continue
        shape = shape_of(section)
        plan.sources[shape.name] = shape.source
        needed = serving_memory(shape, section, config.engine, card.bytes)
        running = min(config.engine.max_num_seqs, int(needed.cache // (needed.sequence / needed.longest * 2 * tokens)))
        figures = [needed.weights, needed.step, max(needed.cache, 0)]
        plan.serving.append(
            [stage, shape.name, *map(gib, figures), f"{needed.sequences:,} of {needed.longest:,} tokens",
             "yes" if needed.fits else "NO"]
        )  # fmt: skip
        if not needed.fits:
            plan.problems.append(f"{stage}: {section.model} leaves no room for its KV cache; {serving_advice(section)}")
        if section is config.policy:
            hours = sampling_hours(shape, config, (tokens, slices * patches), max(running, 1), assumed)
            add_hours(plan, "generate", hours, gpus)
        elif section is config.labeler:
            image = (section.max_pixels // 28**2, section.max_pixels // 14**2) if section.max_pixels else (1280, 5120)
            add_hours(plan, "feedback", labeling_hours(shape, config, image, max(running, 1), assumed), gpus)
    arguments = arguments_of(DPO_DEFAULTS, config.dpo.trainer, bf16=config.policy.dtype != "float32")
    training, step = dpo_training(config, arguments, processes, sharding), dpo_step(config, arguments)
    smaller = arguments_of(vars(arguments), {"per_device_train_batch_size": 1}, bf16=arguments.bf16)
    lora = config.model_copy(update={"dpo": config.dpo.model_copy(update={"method": "lora"})})
    cures = Cures("dpo.trainer.", dpo_step(config, smaller), dpo_training(lora, arguments, processes, sharding))
    add_training(plan, "dpo", policy, training, step, card, cures)
    usual = config.generation.model_copy(update={"max_tokens": assumed.answer_tokens})
    step = dpo_step(config.model_copy(update={"generation": usual}), arguments)
    batches = assumed.prompts * config.feedback.pairs_per_prompt / arguments.per_device_train_batch_size
    add_training_hours(plan, "dpo", policy, training, step, batches, arguments, processes, assumed)
    return plan


def plan_stage(config: TrainingConfig, card: "Card", processes: int, sharding: str, assumed: "Assumed") -> Plan:
    """A stage of training. Errors: RlaifError."""
    from rlaif.memory.settings import Cures, stage_step, stage_training
    from rlaif.memory.shapes import shape_of

    plan = Plan()
    shape = shape_of(config.start)
    plan.sources[shape.name] = shape.source
    arguments = arguments_of(TRAINING_DEFAULTS, config.trainer, bf16=config.dtype == "bfloat16")
    training, step = stage_training(config, arguments, processes, sharding), stage_step(config, arguments)
    smaller = arguments_of(vars(arguments), {"per_device_train_batch_size": 1}, bf16=arguments.bf16)
    cures = Cures("trainer.", stage_step(config, smaller), None)
    add_training(plan, config.stage, shape, training, step, card, cures)
    return plan


def arguments_of(defaults: dict[str, Any], given: dict[str, Any], bf16: bool) -> Any:
    """The arguments of a Trainer that a configuration gives, over the defaults on a GPU."""
    return SimpleNamespace(**{**defaults, "bf16": bf16, **given})


def add_training(
    plan: Plan, stage: str, shape: "Shape", training: "Training", step: "Step", card: "Card", cures: "Cures"
) -> None:
    """A row of the table of trainings, and what to change if it does not fit."""
    from rlaif.memory.settings import advice
    from rlaif.memory.training import training_memory

    needed = training_memory(shape, training, step)
    fits = needed.peak <= card.usable
    figures = (needed.weights, needed.reference, needed.gradients, needed.optimizer, needed.activations, needed.head)
    plan.training.append([stage, *map(gib, figures), gib(needed.peak), "yes" if fits else "NO"])
    if not fits:
        plan.problems.append(
            f"{stage}: {gib(needed.peak)} GiB do not fit the {gib(card.usable)} GiB that a training can use of "
            f"{card.title}; {advice(shape, training, step, card.usable, cures)}"
        )


def add_training_hours(
    plan: Plan, stage: str, shape: "Shape", training: "Training", step: "Step", batches: float, arguments: Any,
    processes: int, assumed: "Assumed",
) -> None:  # fmt: skip
    """A row of the table of hours."""
    from rlaif.pipelines.plan_hours import training_hours

    beforehand = bool(getattr(arguments, "precompute_ref_log_probs", False))
    hours = training_hours(shape, training, step, batches, arguments.num_train_epochs, beforehand, assumed)
    add_hours(plan, stage, hours, processes)


def add_hours(plan: Plan, stage: str, hours: float, gpus: int) -> None:
    plan.hours.append([stage, f"{hours:.1f}", f"{hours / gpus:.1f}"])


def serving_advice(section: ModelSection) -> str:
    """What leaves more room for a KV cache, the cheapest first."""
    quantized = ", set labeler.quantization" if section.quantization is None else ""
    return (
        "lower engine.max_model_len and engine.max_num_batched_tokens, set engine.kv_cache_dtype to fp8"
        f"{quantized}, or raise engine.tensor_parallel_size"
    )


def gib(figure: float) -> str:
    return f"{figure / GIB:.1f}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in [columns, *rows]]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]])


def report(plan: Plan, card: "Card", processes: int, sharding: str, assumed: "Assumed") -> str:
    """The plan as text."""
    shared = f", {processes} of them, {sharding}" if processes > 1 else ""
    lines = [f"reckoned, not measured, for {card.title}{shared}"]
    lines += [f"{model}: shapes from {source}" for model, source in plan.sources.items()]
    if plan.serving:
        columns = ["sampling and labeling", "model", "weights", "a step", "KV cache", "sequences in it", "fits"]
        lines += ["", "GiB on each GPU:", "", table(columns, plan.serving)]
    columns = ["training", "weights", "reference", "gradients", "optimizer", "activations", "head", "peak", "fits"]
    lines += ["", "GiB on each GPU, not all at the same time:", "", table(columns, plan.training)]
    if plan.hours:
        columns = ["stage", "GPU hours", f"hours on {processes} GPU{'s' * (processes > 1)}"]
        lines += ["", *assumed.lines(), "", table(columns, plan.hours)]
    return "\n".join(lines)


def load(path: str, overrides: Sequence[str]) -> Config | TrainingConfig:
    """The configuration of a run, or of a training stage, which has the key `stage`. Errors: ConfigError."""
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        values = None  # the loader below says what is wrong
    if isinstance(values, dict) and "stage" in values:
        return load_config_of(TrainingConfig, path, overrides)
    return load_config_of(Config, path, overrides)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 2 if something does not fit, or for an error of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m rlaif.pipelines.plan", description="Reckon memory and hours of a configuration."
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="configuration of a run, or of a training stage")
    add("--gpu-memory", default="", metavar="GIB", help="memory of a GPU; default that of this machine, or 80")
    add("--processes", default="1", metavar="N", help="GPUs, one process each; default 1")
    add("--sharding", default="ddp", metavar="NAME", help="ddp, fsdp2, zero2 or zero3; default ddp")
    add("--set", dest="overrides", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="change values")
    args = parser.parse_args(argv)
    try:
        config = load(args.config, args.overrides)
        gigabytes = positive("GPU_MEMORY", args.gpu_memory) if args.gpu_memory else None
        processes = int(positive("PROCESSES", args.processes or "1"))
        from rlaif.memory.card import card_of
        from rlaif.memory.training import SHARDINGS
        from rlaif.pipelines.plan_hours import Assumed

        sharding = args.sharding or "ddp"
        if sharding not in SHARDINGS:
            raise ConfigError(f"SHARDING is {args.sharding!r}; expected one of {', '.join(SHARDINGS)}")
        card = card_of(gigabytes)
        if isinstance(config, TrainingConfig):
            assumed = Assumed()
            plan = plan_stage(config, card, processes, sharding, assumed)
        else:
            assumed = Assumed(prompts=config.data.limit or Assumed.prompts)
            plan = plan_run(config, card, processes, sharding, assumed)
    except RlaifError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report(plan, card, processes, sharding, assumed))
    for problem in plan.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 2 if plan.problems else 0


def positive(name: str, text: str) -> float:
    """Errors: ConfigError."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if value <= 0 or (name == "PROCESSES" and value != int(value)):
        raise ConfigError(f"{name} is {text!r}; expected a number above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
