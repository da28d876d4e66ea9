"""Checkpoints of a training in the released layout, read back by Trainer; and whether what must not move moved."""

import hashlib
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from safetensors import safe_open
from torch import nn
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import CONFIG_NAME, cached_file


class ReleasedCheckpoints:
    """Mixed into a Trainer, which loads what it knows by name and leaves the rest: where a checkpoint has other names
    than the model, as the released ones are, it would stay as it is.
    """

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        model = self.model if model is None else model
        if is_peft_model(model) or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
        else:
            kind: Any = type(model)
            saved = kind.from_pretrained(resume_from_checkpoint, use_safetensors=True, dtype=model.dtype)
            model.load_state_dict(saved.state_dict())

    def _load_best_model(self: Any) -> None:
        """For `load_best_model_at_end`; in the same way for the same reason."""
        assert self.state.best_model_checkpoint is not None
        self._load_from_checkpoint(self.state.best_model_checkpoint)


def last_complete_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint. One that a kill cut short lacks the state that Trainer writes last, and is removed."""
    if not folder.is_dir():
        return None
    while (newest := get_last_checkpoint(str(folder))) and not (Path(newest) / "trainer_state.json").is_file():
        shutil.rmtree(newest)
    return newest


def moved_tensors(
    before: str, revision: str | None, after: Path, names: Iterable[str], dtype: torch.dtype
) -> list[str]:
    """Those of the tensors (released names) that are not in `after` to the bit what they are, in dtype, in `before`, a
    folder or hub id. It reads what was saved, so it does not matter how a training laid its parameters out.
    """
    config = cached_file(before, CONFIG_NAME, revision=revision)
    assert config is not None, "the model was loaded from there"
    folder = Path(config).parent
    with ExitStack() as stack:
        old: dict[str, Any] = {}
        new: dict[str, Any] = {}
        for place, found in ((folder, old), (after, new)):
            for file in sorted(place.glob("*.safetensors")):
                handle = stack.enter_context(safe_open(file, framework="pt"))
                found |= dict.fromkeys(handle.keys(), handle)
        return [
            name for name in names if not torch.equal(old[name].get_tensor(name).to(dtype), new[name].get_tensor(name))
        ]


def fingerprint(parameters: Iterable[torch.Tensor]) -> str:
    """A hash over the first values of each parameter: it changes when one of them is trained."""
    digest = hashlib.sha256()
    for parameter in parameters:
        digest.update(parameter.detach().flatten()[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()
