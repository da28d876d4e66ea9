"""The parts of the model and which of them train."""

from collections import Counter
from collections.abc import Collection

from torch import nn

PARTS = {"vision": ("vision_model.",), "resampler": ("resampler.",), "llm": ("language_model.", "lm_head.")}


def part_of(parameter: str) -> str:
    """The part that a parameter of this name belongs to."""
    return next(part for part, tags in PARTS.items() if any(tag in parameter for tag in tags))


def freeze(model: nn.Module, parts: Collection[str]) -> None:
    """Make all parameters train but those of `parts`."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) not in parts)


def parameter_counts(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Part -> (parameters that train, all parameters)."""
    trained: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        trained[part_of(name)] += parameter.numel() if parameter.requires_grad else 0
        total[part_of(name)] += parameter.numel()
    return {part: (trained[part], total[part]) for part in PARTS}
