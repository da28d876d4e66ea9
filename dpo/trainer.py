"""TRL's DPOTrainer with the little that MiniCPM-V needs otherwise: a checked start, and checkpoints that are read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import DistributedType
from datasets import Dataset
from torch import nn
from trl import DPOConfig, DPOTrainer

from dpo.collator import Collator, PairCollator
from dpo.policy import load_policy, lora_config
from model.checkpoint import ReleasedCheckpoints
from model.parts import freeze
from rlaif.config import Config
from rlaif.trainer import LOGGED, report_as_text

# elsewhere a part of the model cannot be called by itself: its weights are spread over the devices
WHOLE_ON_EACH_DEVICE = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)
LOGGED_PAIRS = {"rewards/margins": "margin", "rewards/accuracies": "accuracy"}  # logged key -> label
START_TOLERANCE = 0.01  # nats between policy and reference before the first update, when their weights are equal


class PairTrainer(ReleasedCheckpoints, DPOTrainer):
    """DPOTrainer that checks its start and resumes from checkpoints in the released layout."""

    model: Any
    shared_vision = False  # the vision encoder is frozen: what it makes of an image serves policy and reference

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """As it is: rows become tokens in the collator."""
        return dataset

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Before the first update rewards are 0 and the sigmoid loss is ln 2, or the reference is a wrong one.

        The figures of the first batch become entry 0 of the log, which checkpoints carry on.
        """
        if self.shared_vision and "pixel_values" in inputs:
            inputs = self.with_vision_states(inputs)
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self.model.training and self.state.global_step == 0:
            chosen, rejected = (self._metrics["train"][f"rewards/{side}"][-1] for side in ("chosen", "rejected"))
            differ = f"policy and reference differ before the first update: rewards {chosen} and {rejected}, not 0"
            assert max(abs(chosen), abs(rejected)) <= self.beta * START_TOLERANCE, differ
            if not self.state.log_history:
                margin = chosen - rejected
                rewards = {"rewards/chosen": chosen, "rewards/rejected": rejected, "rewards/margins": margin}
                sigmoid = math.log1p(math.exp(-margin))  # whatever other losses are added to it
                self.state.log_history.append({"loss": loss.item(), "sigmoid_loss": sigmoid, **rewards, "step": 0})
        return loss

    def with_vision_states(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The images of a batch encoded, for policy and reference alike."""
        encoder = self.accelerator.unwrap_model(self.model).get_encoder(modality="image")
        others = {name: value for name, value in inputs.items() if name != "pixel_values"}
        with torch.no_grad(), self.accelerator.autocast():  # in the precision of the forward pass that it is taken from
            return {**others, "vision_states": encoder(inputs["pixel_values"], inputs["tgt_sizes"])}


@dataclass(frozen=True)
class PicturesAsImages:
    """Hides pictures from TRL, which refuses to compute the reference's log-probs once for all where it sees a column
    `images`, and gives the collator its rows as it knows them. What was computed goes with the batch.
    """

    collator: Collator

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        batch = self.collator([{**row, "images": row["pictures"]} for row in rows])
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows])
        return batch


def build_trainer(
    config: Config, args: DPOConfig, collator: Collator, train: Dataset, validation: Dataset | None
) -> PairTrainer:
    """A trainer with the reference that the method has.

    Full fine-tuning gets a second copy of the weights (left to itself TRL would load one by name), unless the
    reference's log-probs are computed beforehand (`precompute_ref_log_probs`): the model itself is the reference then.
    LoRA's reference is the model with its adapter switched off, and with the resampler as it was where that trains too.
    TRL makes the adapter itself: a PeftModel passed in would be resumed from nothing.
    """
    full = config.dpo.method == "full"
    model = load_policy(config.policy, trains=full)
    reference, adapter = None, None
    if full:
        freeze(model, config.dpo.freeze)
        if not args.precompute_ref_log_probs:
            reference = load_policy(config.policy, trains=True).requires_grad_(False)
    else:
        adapter = lora_config(config.dpo.lora, model)
    trainer = PairTrainer(
        model=model,
        ref_model=reference,
        args=args,
        data_collator=PicturesAsImages(collator),
        train_dataset=train.rename_column("images", "pictures"),
        eval_dataset=validation and validation.rename_column("images", "pictures"),
        processing_class=collator.processor,
        peft_config=adapter,
    )
    report_as_text(trainer, {**LOGGED, **LOGGED_PAIRS})
    encoder = trainer.model.get_encoder(modality="image")
    trainer.shared_vision = (
        config.dpo.shared_vision
        and isinstance(collator, PairCollator)
        and trainer.accelerator.distributed_type in WHOLE_ON_EACH_DEVICE
        and not any(parameter.requires_grad for parameter in encoder.parameters())
    )
    return trainer


def reference_parameters(trainer: PairTrainer) -> list[torch.Tensor]:
    """What must not move: the reference, or with LoRA everything but the adapter."""
    if trainer.ref_model is not None:
        return list(trainer.ref_model.parameters())
    return [parameter for parameter in trainer.model.parameters() if not parameter.requires_grad]
