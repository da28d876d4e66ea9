"""Memory and hours of a configuration, reckoned before it runs: what fits the GPU, and what to change.

    make plan CONFIG=configs/minicpmv-2.5.yaml GPU_MEMORY=80
    make plan CONFIG=configs/training/sft-1.yaml PROCESSES=8 SHARDING=fsdp2
    python -m rlaif.pipelines.plan --config configs/minicpmv-2.5.yaml --gpu-memory 80 --set dpo.method=full

Shapes come from each model's config.json; nothing is loaded. The batch is the largest one: every image with all slices,
every answer at full length. The exit status is 2 if a stage does not fit.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import yaml

from rlaif.config import Config, EngineSection, ModelSection, TrainingConfig
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
PLANNED = ("ddp", "fsdp2", "zero2", "zero3")  # the files of configs/accelerate
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
    stages = [("generate, evaluate", "policy", config.policy), ("feedback", "labeler", config.labeler)]
    if config.splitter is not None:
        stages.append(("feedback, splitting", "splitter", config.splitter))
    for stage, role, section in stages:
        if section.endpoint is not None:
            plan.serving.append([stage, section.model, "an endpoint", "", "", "", "yes"])
            continue
        shape = shape_of(section)
        plan.sources[shape.name] = shape.source
        needed = serving_memory(shape, section, config.engine, card.bytes)
        held = int(needed.cache // (needed.sequence / needed.longest * 2 * tokens))
        running = max(1, min(config.engine.max_num_seqs, held))
        figures = [needed.weights, needed.step, max(needed.cache, 0)]
        plan.serving.append(
            [stage, shape.name, *map(gib, figures), f"{needed.sequences:,} of {needed.longest:,} tokens",
             "yes" if needed.fits else "NO"]
        )  # fmt: skip
        if needed.longest <= tokens and section is config.policy:
            plan.problems.append(
                f"{stage}: engine.max_model_len is {needed.longest}, but the largest image alone has {tokens:,} "
                "tokens; raise it"
            )
        if not needed.fits:
            plan.problems.append(
                f"{stage}: {section.model} leaves no room for the KV cache of one sequence on {card.title}; "
                f"{serving_advice(shape, section, config.engine, card.bytes, role)}"
            )
        elif section is config.policy:
            hours = sampling_hours(shape, config, (tokens, slices * patches), running, assumed)
            add_hours(plan, "generate", hours, gpus)
        elif section is config.labeler:
            image = (section.max_pixels // 28**2, section.max_pixels // 14**2) if section.max_pixels else (1280, 5120)
            add_hours(plan, "feedback", labeling_hours(shape, config, image, running, assumed), gpus)
    arguments = arguments_of(DPO_DEFAULTS, config.dpo.trainer, bf16=config.policy.dtype != "float32")
    training, step = dpo_training(config, arguments, processes, sharding), dpo_step(config, arguments)
    smaller = arguments_of(vars(arguments), {"per_device_train_batch_size": 1}, bf16=arguments.bf16)
    lora = config.model_copy(update={"dpo": config.dpo.model_copy(update={"method": "lora"})})
    cures = Cures("dpo.trainer.", dpo_step(config, smaller), dpo_training(lora, arguments, processes, sharding))
    add_training(plan, "dpo", policy, training, step, card, cures)
    usual = config.generation.model_copy(update={"max_tokens": assumed.answer_tokens})
    step = dpo_step(config.model_copy(update={"generation": usual}), arguments)
    batches = assumed.prompts * config.feedback.pairs_per_prompt / arguments.per_device_train_batch_size
    if not any(problem.startswith("dpo: ") for problem in plan.problems):
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
    """The arguments of a Trainer that a configuration gives, over the defaults on a GPU. Errors: ConfigError."""
    values = {**defaults, "bf16": bf16, **given}
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        if type(values[name]) is not int or values[name] < 1:
            raise ConfigError(f"trainer.{name} is {values[name]!r}; expected a whole number above 0")
    return SimpleNamespace(**values)


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
            f"{stage}: {gib(needed.peak)} GiB do not fit the {gib(max(card.usable, 0))} GiB that a training can use of "
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
    plan.hours.append([stage, duration(hours), duration(hours / gpus)])


def duration(hours: float) -> str:
    """Hours, or minutes where they are fewer than one."""
    return f"{hours:.1f} h" if hours >= 1 else f"{max(1, round(hours * 60))} min"


def serving_advice(shape: "Shape", section: ModelSection, engine: EngineSection, card: float, role: str) -> str:
    """The changes that leave room for a KV cache, the cheapest first, each enough by itself."""
    from rlaif.memory.serving import serving_memory

    half = (engine.max_model_len or int(shape.text.max_position_embeddings)) // 2
    on_engine: list[tuple[str, object]] = [
        ("max_model_len", half), ("max_num_batched_tokens", 4096), ("kv_cache_dtype", "fp8"),
        *(("tensor_parallel_size", gpus) for gpus in (2, 4, 8)),
    ]  # fmt: skip
    changes = [(f"engine.{key}={value}", engine.model_copy(update={key: value}), section) for key, value in on_engine]
    if role != "policy" and section.quantization is None:  # the policy is sampled with the weights that train
        quantized = section.model_copy(update={"quantization": "fp8_per_tensor"})
        changes.insert(3, (f"{role}.quantization=fp8_per_tensor", engine, quantized))
    cures = [text for text, served, model in changes if serving_memory(shape, model, served, card).fits]
    return f"set {' or '.join(cures[:2])}" if cures else "use a larger GPU"


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
    columns = [
        "training",
        "weights",
        "reference model",
        "gradients",
        "optimizer",
        "activations",
        "head",
        "peak",
        "fits",
    ]
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
    if isinstance(values, dict) and "policy" not in values:
        raise ConfigError(
            f"{path} is neither the configuration of a run, which has a policy, nor of a training stage, which has a "
            "stage; only these are planned"
        )
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
    add("--sharding", default="", metavar="NAME", help="ddp, fsdp2, zero2 or zero3; default ddp")
    add("--set", dest="overrides", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="change values")
    args = parser.parse_args(argv)
    try:
        config = load(args.config, args.overrides)
        gigabytes = positive("GPU_MEMORY", args.gpu_memory) if args.gpu_memory else None
        processes = int(positive("PROCESSES", args.processes or "1", int))
        from rlaif.memory.card import card_of
        from rlaif.pipelines.plan_hours import Assumed

        sharding = args.sharding or "ddp"
        if sharding not in PLANNED:
            raise ConfigError(f"SHARDING is {args.sharding!r}; expected one of {', '.join(PLANNED)}")
        if args.sharding and processes == 1:
            raise ConfigError(f"SHARDING is {sharding} with one process; set PROCESSES to 2 or more, or remove it")
        if isinstance(config, Config) and config.engine.tensor_parallel_size > processes:
            raise ConfigError(
                f"engine.tensor_parallel_size is {config.engine.tensor_parallel_size}, but PROCESSES is {processes}; "
                "set PROCESSES to the number of GPUs"
            )
        card = card_of(gigabytes)
        if isinstance(config, TrainingConfig):
            assumed = Assumed()
            plan = plan_stage(config, card, processes, sharding, assumed)
        else:
            assumed = Assumed(prompts=sampled_prompts(config))
            plan = plan_run(config, card, processes, sharding, assumed)
    except RlaifError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report(plan, card, processes, sharding, assumed))
    for problem in plan.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 2 if plan.problems else 0


def sampled_prompts(config: Config) -> int:
    """The prompts of `generation.splits`, of `data.limit` or of those that are assumed."""
    from rlaif.pipelines.plan_hours import Assumed

    data, splits = config.data, config.generation.splits
    shares = {"validation": data.validation_share, "test": data.test_share}
    shares["train"] = 1 - sum(shares.values())
    return round((data.limit or Assumed.prompts) * sum(shares[split] for split in splits))


def positive(name: str, text: str, kind: Callable[[str], float] = float) -> float:
    """Errors: ConfigError."""
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{name} is {text!r}; expected a {'whole ' if kind is int else ''}number above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
