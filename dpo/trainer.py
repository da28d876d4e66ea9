"""TRL's DPOTrainer for MiniCPM-V.

It checks its start, encodes frozen images once, and resumes from checkpoints in the released layout.

TRL computes the loss: -log sigmoid(beta * (log ratio of chosen - log ratio of rejected)), where a log ratio is that of
policy to reference (arXiv 2305.18290, equation 7).
"""

import math
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType
from datasets import Dataset
from peft import get_peft_model
from torch import nn
from trl import DPOConfig

from dpo import vision_cache
from dpo.collator import Collator, PairCollator
from dpo.pair_reader import PROMPT, PairReader
from dpo.policy import load_policy, lora_config
from dpo.sampler import PromptSampler
from dpo.trl_private import LocationCollator, LocationTrainer, restore_precision
from dpo.vision_cache import Kind, frozen_vision
from model.parts import freeze
from model.transformers_private import ReleasedCheckpoints
from rlaif.config import Config
from rlaif.errors import ModelError
from rlaif.processes import ShardedTrainer, uses_deepspeed, uses_fsdp, whole_state
from rlaif.trainer import LOGGED, report_as_text

# Other types shard the weights over devices, so that a part of the model cannot be called alone.
UNSHARDED = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)
LOGGED_PAIRS = {"rewards/margins": "margin", "rewards/accuracies": "accuracy"}  # logged key -> label
START_TOLERANCE = 0.01  # nats between policy and reference before the first update, when their weights are equal


class PairTrainer(ReleasedCheckpoints, ShardedTrainer, LocationTrainer):
    """DPOTrainer that checks its start and resumes from checkpoints in the released layout."""

    args: DPOConfig
    model: Any
    shared_vision: Kind = "no"  # what policy and reference share of frozen parts
    groups_pairs = False  # whether the pairs of a prompt come in one batch

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss of a batch; before the first update rewards must be 0, which makes the sigmoid loss ln 2.

        The figures of the first batch become entry 0 of the log, which checkpoints keep.
        Errors: ModelError: rewards are not 0 before the first update.
        """
        if self.shared_vision != "no" and "pixel_values" in inputs:
            inputs = self.with_vision_states(inputs)
        trainer: Any = super()  # untyped
        loss = trainer.compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self.model.training and self.state.global_step == 0:
            chosen, rejected = self.batch_rewards()
            tolerance = self.args.beta * START_TOLERANCE
            if not (abs(chosen) <= tolerance and abs(rejected) <= tolerance):  # true for NaN too
                raise ModelError(
                    f"policy and reference differ before the first update: rewards {chosen} and {rejected}, not 0; "
                    "set policy.dtype to float32, or dpo.trainer.precompute_ref_log_probs to false"
                )
            if not self.state.log_history:
                margin = chosen - rejected
                rewards = {"rewards/chosen": chosen, "rewards/rejected": rejected, "rewards/margins": margin}
                sigmoid = math.log1p(math.exp(-margin))  # without other losses of `loss_type`
                mean = self.accelerator.gather(loss.detach()).mean().item()  # rewards are those of all processes too
                self.state.log_history.append({"loss": mean, "sigmoid_loss": sigmoid, **rewards, "step": 0})
        return loss

    def with_vision_states(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The batch with its images encoded, for policy and reference alike, as far as the parts are frozen."""
        model = self.accelerator.unwrap_model(self.model)
        images, others = inputs["pixel_values"], {key: value for key, value in inputs.items() if key != "pixel_values"}
        with torch.no_grad(), self.accelerator.autocast():  # the precision of the forward pass that this replaces
            if self.shared_vision == "features":
                return {**others, "image_features": model.get_image_features(images, inputs["tgt_sizes"])}
            return {**others, "vision_states": model.get_encoder(modality="image")(images, inputs["tgt_sizes"])}

    def get_train_dataloader(self) -> Any:
        """Trainer's, with the pairs of a prompt in one batch, unless the arguments ask for another order."""
        loader: Any = super().get_train_dataloader()
        if self.groups_pairs and self.args.train_sampling_strategy == "random":
            dataset: Any = self.train_dataset
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            loader.set_sampler(PromptSampler(dataset[PROMPT], self.args.train_batch_size, seed))
        return loader


def groups_pairs(config: Config, collator: Collator) -> bool:
    """Whether the pairs of a prompt come in one batch: the collator of other models would gain nothing."""
    return config.dpo.group_pairs and isinstance(collator, PairCollator)


def build_trainer(
    config: Config, args: DPOConfig, collator: Collator, file: Path, train: Dataset, validation: Dataset | None
) -> PairTrainer:
    """A trainer for the pairs of `file`, at the locations `train` and `validation` (see dpo.pair_reader).

    Full fine-tuning trains float32 weights. It gets a second copy as its reference (TRL would load it), unless
    `precompute_ref_log_probs` is set: then the model itself is the reference before it trains. With LoRA the reference
    is the model with its adapter disabled, including the original resampler if that is trained. TRL creates the
    adapter: a PeftModel that is passed in would not be restored from a checkpoint.
    """
    full = config.dpo.method == "full"
    compute = None if config.dpo.quantization is None else torch.bfloat16 if args.bf16 else torch.float32
    model: Any = load_policy(config.policy, full, compute)
    reference, adapter = None, None
    if isinstance(collator, PairCollator) and args.ddp_find_unused_parameters is None:
        args.ddp_find_unused_parameters = False  # MiniCPM-V uses all without an image too
    if full:
        freeze(model, config.dpo.freeze)
        if not args.precompute_ref_log_probs or uses_fsdp():  # shards the model only when training starts
            reference = load_policy(config.policy, trains=True).requires_grad_(False)
            if args.bf16 and not uses_fsdp() and not uses_deepspeed():
                round_matrices(reference)
    else:
        adapter = lora_config(config.dpo.lora, model)
    read = PairReader(file)
    if config.dpo.cache_vision is not None:
        assert isinstance(collator, PairCollator), "checked before"
        images = collator.processor.image_processor
        cache = vision_cache.open_cache(Path(config.dpo.cache_vision), frozen_vision(config.dpo), model, images, args)
        vision_cache.fill(cache, model, args, read, [train] if validation is None else [train, validation])
        collator.vision = cache
    trainer = PairTrainer(
        model=model,
        ref_model=reference,
        args=args,
        data_collator=LocationCollator(read, collator),
        train_dataset=train,
        eval_dataset=validation,
        processing_class=collator.processor,
        peft_config=adapter,
    )
    if compute is not None:
        restore_precision(trainer.model)
    if args.precompute_ref_log_probs:
        trainer.ref_model = None
    report_as_text(trainer, {**LOGGED, **LOGGED_PAIRS})
    trainer.groups_pairs = groups_pairs(config, collator)
    if (
        config.dpo.shared_vision
        and isinstance(collator, PairCollator)
        and trainer.accelerator.distributed_type in UNSHARDED
    ):
        trainer.shared_vision = frozen_vision(config.dpo)
    return trainer


def round_matrices(model: nn.Module) -> None:
    """Keep the matrices of linear layers in bfloat16, half of their memory: autocast computes with these same values.
    Embeddings and norms stay float32, so that the hidden states have the precision of those of the policy.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)


def whole_model(trainer: PairTrainer, config: Config) -> Any:
    """The trained model on the first process, None on the others; with LoRA a PeftModel. All processes must call it."""
    unwrapped = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.accelerator.distributed_type in UNSHARDED:
        return unwrapped if trainer.is_world_process_zero() else None
    state = whole_state(trainer)
    if not trainer.is_world_process_zero():
        return None
    full = config.dpo.method == "full"
    model: Any = load_policy(config.policy, trains=full)
    if not full:
        model = get_peft_model(model, unwrapped.peft_config["default"])
    model.load_state_dict(state)
    return model


def reference_parameters(trainer: PairTrainer) -> list[torch.Tensor]:
    """The parameters that must not change: the reference, or with LoRA everything but the adapter."""
    if trainer.ref_model is not None:
        return list(trainer.ref_model.parameters())
    return [parameter for parameter in trainer.model.parameters() if not parameter.requires_grad]
