"""Read the weights of a policy one tensor at a time: a model of 17 GB needs the memory of its largest tensor."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open

from rlaif.errors import ModelError


@dataclass(frozen=True)
class Weights:
    """Tensors of the released layout (`llm.*`, `vpm.*`, `resampler.*`) by name."""

    folder: Path
    handles: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Errors: ModelError: the folder has no *.safetensors, or one is damaged or cut short."""
        handles: dict[str, Any] = {}
        files = sorted(folder.glob("*.safetensors"))
        for file in files:
            try:
                handle = safe_open(file, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ModelError(
                    f"{file} is damaged or cut short ({error}), expected a whole safetensors file; copy it again"
                ) from error
            handles |= dict.fromkeys(handle.keys(), handle)
        if not files:
            raise ModelError(
                f"{folder} has no *.safetensors; expected the weights of a MiniCPM-V; give a policy folder, or run "
                "`make dpo`"
            )
        return cls(folder, handles)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.handles.clear()

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self.handles[name].get_tensor(name)
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.handles[name].get_slice(name).get_shape())

    def require(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Check that these tensors are there, in these shapes.

        Errors: ModelError, with the first names that are missing or have another shape.
        """
        wrong = [
            f"no {name}" if name not in self.handles else f"{name} {list(self.shape(name))} instead of {list(shape)}"
            for name, shape in shapes.items()
            if name not in self.handles or self.shape(name) != shape
        ]
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise ModelError(
                f"{self.folder}: the weights are not those that its config.json describes ({', '.join(wrong[:3])}{more}"
                "); use the config.json that belongs to the weights"
            )
