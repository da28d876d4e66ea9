"""TRL's DPOTrainer with the little that MiniCPM-V needs otherwise: a checked start, and checkpoints that are read."""

import hashlib
import math
import shutil
from pathlib import Path
from typing import Any

from accelerate.utils import is_peft_model
from datasets import Dataset
from torch import nn
from transformers.trainer_utils import get_last_checkpoint
from trl import DPOConfig, DPOTrainer

from dpo.collator import PairCollator
from dpo.policy import load_policy, lora_config
from model import MiniCPMVForConditionalGeneration
from model.parts import freeze
from rlaif.config import Config

START_TOLERANCE = 0.01  # nats between policy and reference before the first update, when their weights are equal


class PairTrainer(DPOTrainer):
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

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Trainer loads what it knows by name and leaves the rest: with released names the model would stay as is."""
        model = self.model if model is None else model
        if is_peft_model(model) or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            saved = MiniCPMVForConditionalGeneration.from_pretrained(resume_from_checkpoint, dtype=model.dtype)
            model.load_state_dict(saved.state_dict())

    def _load_best_model(self) -> None:
        """For `load_best_model_at_end`; in the same way for the same reason."""
        assert self.state.best_model_checkpoint is not None
        self._load_from_checkpoint(self.state.best_model_checkpoint)


def build_trainer(
    config: Config, args: DPOConfig, collator: PairCollator, train: Dataset, validation: Dataset | None
) -> PairTrainer:
    """A trainer with the reference that the method has.

    Full fine-tuning gets a second copy of the weights (left to itself TRL would load one by name); LoRA's reference is
    the model with its adapter switched off, and with the resampler as it was where that trains too. TRL makes the
    adapter itself: a PeftModel passed in would be resumed from nothing.
    """
    model = load_policy(config.policy, config.dpo.method)
    reference, adapter = None, None
    if config.dpo.method == "full":
        freeze(model, config.dpo.freeze)
        reference = load_policy(config.policy, config.dpo.method).requires_grad_(False)
    else:
        adapter = lora_config(config.dpo.lora)
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


def reference_fingerprint(trainer: PairTrainer) -> str:
    """A hash over the first values of every parameter of the reference: it changes if the reference drifts."""
    if trainer.ref_model is not None:
        parameters = list(trainer.ref_model.parameters())
    else:
        parameters = [parameter for parameter in trainer.model.parameters() if not parameter.requires_grad]
    digest = hashlib.sha256()
    for parameter in parameters:
        digest.update(parameter.detach().flatten()[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def last_complete_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint. One that a kill cut short lacks the state that Trainer writes last, and is removed."""
    if not folder.is_dir():
        return None
    while (newest := get_last_checkpoint(str(folder))) and not (Path(newest) / "trainer_state.json").is_file():
        shutil.rmtree(newest)
    return newest
