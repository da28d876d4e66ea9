"""TRL's DPOTrainer with the little that MiniCPM-V needs otherwise: a checked start, and checkpoints that are read."""

import math
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from trl import DPOConfig, DPOTrainer

from dpo.collator import Collator
from dpo.policy import load_policy, lora_config
from model.checkpoints import ReleasedCheckpoints
from model.parts import freeze
from rlaif.config import Config

START_TOLERANCE = 0.01  # nats between policy and reference before the first update, when their weights are equal


class PairTrainer(ReleasedCheckpoints, DPOTrainer):
    """DPOTrainer that checks its start and resumes from checkpoints in the released layout.

    Nothing is overridden for the data: with a column `images`, TRL hands rows to the collator as they are.
    """

    model: nn.Module

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Before the first update rewards are 0 and the sigmoid loss is ln 2, or the reference is a wrong one.

        The figures of the first batch become entry 0 of the log, which checkpoints carry on.
        """
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


def build_trainer(
    config: Config, args: DPOConfig, collator: Collator, train: Dataset, validation: Dataset | None
) -> PairTrainer:
    """A trainer with the reference that the method has.

    Full fine-tuning gets a second copy of the weights (left to itself TRL would load one by name); LoRA's reference is
    the model with its adapter switched off, and with the resampler as it was where that trains too. TRL makes the
    adapter itself: a PeftModel passed in would be resumed from nothing.
    """
    full = config.dpo.method == "full"
    model = load_policy(config.policy, trains=full)
    reference, adapter = None, None
    if full:
        freeze(model, config.dpo.freeze)
        reference = load_policy(config.policy, trains=True).requires_grad_(False)
    else:
        adapter = lora_config(config.dpo.lora, model)
    return PairTrainer(
        model=model,
        ref_model=reference,
        args=args,
        data_collator=collator,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=collator.processor,
        peft_config=adapter,
    )


def reference_parameters(trainer: PairTrainer) -> list[torch.Tensor]:
    """What must not move: the reference, or with LoRA everything but the adapter."""
    if trainer.ref_model is not None:
        return list(trainer.ref_model.parameters())
    return [parameter for parameter in trainer.model.parameters() if not parameter.requires_grad]
