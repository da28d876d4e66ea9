"""The memory of a GPU, and how much of it a training may take."""

from dataclasses import dataclass

import torch

GIB = 2**30
DEFAULT_GIB = 80.0
CONTEXT = 1.5 * GIB  # CUDA context, cuBLAS and NCCL workspaces
FRAGMENTS = 0.05  # of the rest: what the allocator cannot use


@dataclass(frozen=True)
class Card:
    """A GPU: its bytes, and what it is in words."""

    bytes: float
    title: str

    @property
    def usable(self) -> float:
        """Bytes for the tensors of a training."""
        return (self.bytes - CONTEXT) * (1 - FRAGMENTS)


def card_of(gigabytes: float | None) -> Card:
    """The GPU of this machine, or one of so many GiB; without either, one of DEFAULT_GIB."""
    if gigabytes is not None:
        return Card(gigabytes * GIB, f"a GPU of {gigabytes:g} GiB")
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        return Card(device.total_memory, f"{device.name}, {device.total_memory / GIB:.1f} GiB")
    return Card(DEFAULT_GIB * GIB, f"a GPU of {DEFAULT_GIB:g} GiB, as this machine has none (GPU_MEMORY= sets another)")
