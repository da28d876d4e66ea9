"""The parts of an image-text model and which of them train."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, Literal

from torch import nn

Part = Literal["vision", "resampler", "llm"]
PARTS: tuple[Part, ...] = ("vision", "resampler", "llm")


def parameters_by_part(model: Any) -> Iterator[tuple[Part, nn.Parameter]]:
    """Each parameter of a transformers model with the part that it belongs to; `resampler`: all but the other two."""
    vision = {id(parameter) for parameter in model.get_encoder(modality="image").parameters()}
    llm = {id(parameter) for parameter in model.get_decoder().parameters()}
    llm |= {id(parameter) for parameter in model.get_output_embeddings().parameters()}
    for parameter in model.parameters():
        part: Part = "vision" if id(parameter) in vision else "llm" if id(parameter) in llm else "resampler"
        yield part, parameter


def freeze(model: nn.Module, parts: Collection[str]) -> None:
    """Make all parameters train but those of `parts`."""
    for part, parameter in parameters_by_part(model):
        parameter.requires_grad_(part not in parts)


def parameter_counts(model: nn.Module) -> dict[Part, tuple[int, int]]:
    """Part -> (parameters that train, all parameters)."""
    trained: Counter[Part] = Counter()
    total: Counter[Part] = Counter()
    for part, parameter in parameters_by_part(model):
        trained[part] += parameter.numel() if parameter.requires_grad else 0
        total[part] += parameter.numel()
    return {part: (trained[part], total[part]) for part in PARTS}
