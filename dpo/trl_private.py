"""All use of TRL's private API, tested with TRL 1.16; tests/dpo/test_trl_private.py shows what a new version breaks.

| private API                         | why                                                                            |
|-------------------------------------|--------------------------------------------------------------------------------|
| DPOTrainer._prepare_dataset         | overridden: it would tokenize the data set, which our collators do             |
| DPOTrainer._metrics                 | read: no public API gives the rewards of the current batch                     |
| DPOTrainer._compute_loss            | overridden: FSDP2 must gather the output layer's weight before                 |
| DPOTrainer._precompute_ref_logps    | overridden: FSDP leaves the model on the CPU until training starts             |
| DPOTrainer.__init__                 | undone: it rounds what trains on a 4-bit base to bfloat16                      |
| columns ref_{chosen,rejected}_logps | `precompute_ref_log_probs` adds them; a custom collator has to pass them on    |
| columns image, images               | TRL refuses to precompute for a data set that has one; ours has locations only |
| DataCollatorForVisionPreference     | the collator for other models than MiniCPM-V; TRL does not export it           |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.utils import ModulesToSaveWrapper
from torch import nn
from torch.distributed.fsdp import FSDPModule
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

__all__ = ["DataCollatorForVisionPreference", "LocationCollator", "LocationTrainer", "restore_precision"]

REFERENCE_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")  # [B] each, summed over the tokens of an answer

Rows = Sequence[Mapping[str, Any]]


class LocationTrainer(DPOTrainer):
    """A DPOTrainer whose data set holds locations of pairs; LocationCollator makes batches of them."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """The data set as it is."""
        return dataset

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        """TRL multiplies with `lm_head.weight` itself. FSDP2 would hand it a tensor whose gradient is not summed over
        processes: the weight is gathered before, as in a forward pass of the layer.
        """
        head = self.accelerator.unwrap_model(self.model).get_output_embeddings()
        if isinstance(head, FSDPModule):
            head.unshard()
        return super()._compute_loss(model, inputs, return_outputs)

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Before training, FSDP has not yet moved the model to the GPU, where the batches are."""
        if self.is_fsdp_enabled and self.ref_model is None:
            model: Any = self.model
            model.to(self.accelerator.device)
        return super()._precompute_ref_logps(dataset, name, batch_size)

    def batch_rewards(self) -> tuple[float, float]:
        """Mean rewards (chosen, rejected) of the training batch whose loss was computed last."""
        metrics = self._metrics["train"]
        return metrics["rewards/chosen"][-1], metrics["rewards/rejected"][-1]


def restore_precision(model: nn.Module) -> None:
    """Adapters on a 4-bit base are float32 again, and copies of trained parts equal their originals, as on any other.

    TRL rounds them to bfloat16, where small updates are lost, and the copies would differ from their reference.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ".lora_" in name:
            parameter.data = parameter.data.float()
    for wrapper in model.modules():
        if isinstance(wrapper, ModulesToSaveWrapper):
            for copy in wrapper.modules_to_save.values():
                for parameter, original in zip(copy.parameters(), wrapper.original_module.parameters(), strict=True):
                    parameter.data = original.detach().clone()


@dataclass(frozen=True)
class LocationCollator:
    """Reads the pairs of a batch and collates them; precomputed log-probs of the reference go with the batch."""

    read: Callable[[Any], list[dict[str, Any]]]
    collate: Callable[[Any], dict[str, Any]]

    def __call__(self, locations: Rows) -> dict[str, Any]:
        batch = self.collate(self.read(locations))
        for name in REFERENCE_COLUMNS:
            if name in locations[0]:
                batch[name] = torch.tensor([location[name] for location in locations])
        return batch
