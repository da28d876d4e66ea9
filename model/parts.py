"""The parts of an image-text model: which of them train, and whether the frozen ones stayed as they were."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import nn
from torch.distributed.tensor import DTensor
from transformers.utils import CONFIG_NAME, cached_file

Part = Literal["vision", "resampler", "llm"]
PARTS: tuple[Part, ...] = ("vision", "resampler", "llm")


def parameters_by_part(model: Any) -> Iterator[tuple[Part, nn.Parameter]]:
    """Each parameter of a transformers model with its part; `resampler` is whatever connects the other two."""
    vision = {id(parameter) for parameter in model.get_encoder(modality="image").parameters()}
    llm = {id(parameter) for parameter in model.get_decoder().parameters()}
    llm |= {id(parameter) for parameter in model.get_output_embeddings().parameters()}
    for parameter in model.parameters():
        part: Part = "vision" if id(parameter) in vision else "llm" if id(parameter) in llm else "resampler"
        yield part, parameter


def freeze(model: nn.Module, parts: Collection[str]) -> None:
    """Make all parameters trainable but those of `parts`."""
    for part, parameter in parameters_by_part(model):
        parameter.requires_grad_(part not in parts)


def parameter_counts(model: nn.Module) -> dict[Part, tuple[int, int]]:
    """Part -> (trainable parameters, all parameters)."""
    trained: Counter[Part] = Counter()
    total: Counter[Part] = Counter()
    for part, parameter in parameters_by_part(model):
        size = getattr(parameter, "ds_numel", parameter.numel())  # ZeRO-3 leaves an empty tensor
        if (packed := getattr(parameter, "quant_state", None)) is not None:  # two of 4 bits are one number
            size = packed.shape.numel()
        trained[part] += size if parameter.requires_grad else 0
        total[part] += size
    return {part: (trained[part], total[part]) for part in PARTS}


def moved_tensors(before: str, revision: str | None, after: Path, names: Iterable[str]) -> list[str]:
    """The tensors (released names) whose bits differ between two saved models, the first cast like the second.

    before: folder or hub id. Saved files are compared, however a training distributed the parameters.
    """
    config = cached_file(before, CONFIG_NAME, revision=revision)
    assert config is not None, "the model was loaded from there"
    folder = Path(config).parent
    with ExitStack() as stack:
        old: dict[str, Any] = {}
        new: dict[str, Any] = {}
        for source, handles in ((folder, old), (after, new)):
            for file in sorted(source.glob("*.safetensors")):
                handle = stack.enter_context(safe_open(file, framework="pt"))
                handles |= dict.fromkeys(handle.keys(), handle)
        pairs = ((name, old[name].get_tensor(name), new[name].get_tensor(name)) for name in names)
        return [name for name, start, end in pairs if not torch.equal(start.to(end.dtype), end)]


def whole(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter that may be distributed over processes (FSDP2, ZeRO-3), in full. All processes must call it."""
    if isinstance(parameter, DTensor):
        return parameter.full_tensor()
    if hasattr(parameter, "ds_id"):
        import deepspeed  # which has distributed it

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()
    return parameter


def fingerprint(parameters: Iterable[torch.Tensor]) -> str:
    """A hash over the first 256 values of each parameter: it changes when one of the parameters is trained.

    It does not depend on how the parameters are distributed. All processes must call it.
    """
    digest = hashlib.sha256()
    for parameter in parameters:
        digest.update(whole(parameter).detach().flatten()[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()
