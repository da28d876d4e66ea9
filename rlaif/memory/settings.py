"""The settings of `make dpo` and of the training stages, as what is reckoned for them; and the check at their start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Protocol

from rlaif.config import Config, TrainingConfig
from rlaif.errors import ConfigError
from rlaif.memory.card import GIB, card_of
from rlaif.memory.shapes import Shape, shape_of
from rlaif.memory.training import Lora, Step, Training, training_memory

PROMPT_TOKENS = 64  # an instruction with the words of the chat template
TAGS = 4  # tokens around a slice
PATCHES = 1024  # of other models than MiniCPM-V


class Arguments(Protocol):
    """The arguments of a Trainer that decide its memory."""

    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    gradient_checkpointing: bool
    bf16: bool
    optim: Any


def check_four_bits(sharding: str) -> None:
    """Errors: ConfigError: weights of 4 bits (`dpo.quantization`) would be divided over the processes."""
    if sharding != "ddp":
        raise ConfigError(
            f"dpo.quantization is 4bit, but SHARDING={sharding} divides the model over the processes, which was not "
            "tested with 4 bits; use SHARDING=ddp, or remove dpo.quantization"
        )


def dpo_training(config: Config, arguments: Any, processes: int = 1, sharding: str = "ddp") -> Training:
    """How `make dpo` trains. arguments: Arguments with precompute_ref_log_probs."""
    dpo, policy = config.dpo, shape_of(config.policy)
    full = dpo.method == "full"
    dtype = "float32" if full else policy.stored_as if config.policy.dtype == "auto" else config.policy.dtype
    reference = None
    if full and not arguments.precompute_ref_log_probs:
        reference = "bfloat16" if arguments.bf16 and sharding == "ddp" else "float32"
    lora = Lora(dpo.lora.r, tuple(dpo.lora.target_modules), dpo.lora.dropout, dpo.lora.train_resampler)
    return Training(
        trained=tuple(part for part in policy.parts if part not in dpo.freeze),
        dtype=dtype,
        autocast=bool(arguments.bf16),
        checkpointing=bool(arguments.gradient_checkpointing),
        accumulation=arguments.gradient_accumulation_steps,
        optimizer=optimizer_name(arguments.optim),
        lora=None if full else lora,
        reference=reference,
        processes=processes,
        sharding=sharding,
        four_bits=not full and dpo.quantization == "4bit",
    )


def dpo_step(config: Config, arguments: Any) -> Step:
    """The largest batch: every image has the most slices, every answer its full length."""
    shape = shape_of(config.policy)
    answer = config.generation.max_tokens + 1
    if config.dpo.max_answer_tokens is not None:
        answer = min(answer, config.dpo.max_answer_tokens)
    slices, patches, tokens = image_of(shape)
    prompt = tokens + PROMPT_TOKENS
    pairs = arguments.per_device_train_batch_size
    losses = 2 * pairs * answer
    if shape.is_minicpmv and config.dpo.shared_prefix:
        folds = ((prompt, answer, answer),) * pairs
        return Step(1, pairs * (prompt + 2 * answer), losses, pairs * slices, patches, folds)
    repeats = 1 if shape.is_minicpmv else 2
    return Step(2 * pairs, prompt + answer, losses, repeats * pairs * slices, patches)


def stage_training(config: TrainingConfig, arguments: Arguments, processes: int = 1, sharding: str = "ddp") -> Training:
    """How a training stage trains; its frozen parts may be in bfloat16."""
    return Training(
        trained=config.trained,
        dtype="float32",
        autocast=bool(arguments.bf16),
        checkpointing=bool(arguments.gradient_checkpointing),
        accumulation=arguments.gradient_accumulation_steps,
        optimizer=optimizer_name(arguments.optim),
        frozen=config.dtype,
        processes=processes,
        sharding=sharding,
    )


def stage_step(config: TrainingConfig, arguments: Arguments) -> Step:
    """The largest batch: full sequences, of images alone."""
    shape = shape_of(config.start)
    rows, tokens = arguments.per_device_train_batch_size, config.sequence_length
    resolution = config.scale_resolution or shape.config.image_size
    slices = rows * tokens // (shape.config.query_num + TAGS)
    return Step(rows, tokens, rows * tokens, slices, (resolution // shape.config.patch_size) ** 2)


def image_of(shape: Shape) -> tuple[int, int, int]:
    """Slices, patches of each and tokens of the largest image; of other models than MiniCPM-V, one of 1,280 tokens."""
    if not shape.is_minicpmv:
        return 1, PATCHES, 1280
    config = shape.config
    slices = config.max_slice_num + 1 if config.slice_mode else 1
    return slices, (config.image_size // config.patch_size) ** 2, slices * (config.query_num + TAGS)


def optimizer_name(optim: Any) -> str:
    """The name of an optimizer, which transformers has as an enumeration."""
    return str(getattr(optim, "value", optim))


@dataclass(frozen=True)
class Cures:
    """What may need less memory. keys: where the settings of the Trainer stand; smaller: a batch of one; lora: the same
    training with an adapter, None where there is none.
    """

    keys: str
    smaller: Step
    lora: Training | None


def advice(shape: Shape, training: Training, step: Step, room: float, cures: Cures) -> str:
    """The cheapest changes with which a step fits into so many bytes, in words."""
    shared = training.processes if training.processes > 1 else 8
    lora = cures.lora if training.lora is None else None

    def sharded(now: Training, size: Step) -> tuple[Training, Step]:
        whole = now.four_bits  # which is not divided
        return (now if whole else replace(now, processes=shared, sharding="fsdp2")), size

    changes: list[tuple[str, Callable[[Training, Step], tuple[Training, Step]]]] = [
        *([("SHARDING=fsdp2", sharded)] if training.processes > 1 else []),  # the GPUs are there
        (f"set {cures.keys}precompute_ref_log_probs=true", lambda now, size: (replace(now, reference=None), size)),
        (f"set {cures.keys}gradient_checkpointing=true", lambda now, size: (replace(now, checkpointing=True), size)),
        (f"set {cures.keys}per_device_train_batch_size=1", lambda now, size: (now, cures.smaller)),
        ("set dpo.method=lora", lambda now, size: (replace(lora, checkpointing=now.checkpointing), size)
         if lora else (now, size)),
        ("set dpo.quantization=4bit", lambda now, size: (replace(now, four_bits=True), size)
         if now.lora and now.sharding == "ddp" else (now, size)),
        *([] if training.processes > 1 else [(f"PROCESSES={shared} SHARDING=fsdp2", sharded)]),
    ]  # fmt: skip

    def peak(chosen: Sequence[int]) -> float:
        now, size = training, step
        for index in chosen:
            now, size = changes[index][1](now, size)
        return training_memory(shape, now, size).peak

    for count in (1, 2, 3):
        for chosen in combinations(range(len(changes)), count):
            if peak(chosen) <= room:
                return " and ".join(changes[index][0] for index in chosen)
    return "use more GPUs or larger ones"


def check_card(shape: Shape, training: Training, step: Step, cures: Cures) -> None:
    """Refuse a training whose weights, gradients and optimizer alone do not fit the GPU of this process.

    Errors: ConfigError.
    """
    card = card_of(None)
    needed = training_memory(shape, training, step)
    if needed.certain > card.bytes:
        raise ConfigError(
            f"weights, gradients and optimizer of {shape.name} need {needed.certain / GIB:.0f} GiB on each GPU before "
            f"the first batch, and {card.title} has less; {advice(shape, training, step, card.usable, cures)} (make "
            "plan reckons all of it)"
        )
