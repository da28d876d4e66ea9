"""MiniCPM-V: vision encoder -> resampler -> language model, assembled as a transformers model.

Notable choices:
- the model has the attributes `model` (the backbone) and `lm_head`, as TRL's trainers expect; the released tensor
  names (`llm.*`, `vpm.*`, `resampler.*`) are a mapping applied when loading and saving, so what is saved has the
  released layout;
- image features are merged out of place (an in-place scatter breaks LoRA with gradient checkpointing);
- `image_repeats` lets a batch of preference pairs send its images once: rows r, r + B / k, ... then share them;
- `folds` lets all answers to a prompt share its computation (see `model.shared_prefix`).
"""

from collections.abc import Iterable
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import GenerationMixin, LlamaModel, PreTrainedModel, Qwen2Model
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from model.configuration import MiniCPMVConfig, MiniCPMVVisionConfig
from model.output_layer import OutputLayer, mean_loss
from model.resampler import Resampler
from model.shared_prefix import FLEX, FoldedMask, Folds, block_mask
from model.shared_prefix import position_ids as folded_positions
from model.transformers_private import register_released_names
from model.vision import VisionModel, patch_mask

PREFIXES = {  # of our names -> of the released ones
    "model.language_model.": "llm.model.",
    "lm_head.": "llm.lm_head.",
    "model.vision_model.": "vpm.",
    "model.resampler.": "resampler.",
}
LANGUAGE_MODELS = {"2.5": LlamaModel, "2.6": Qwen2Model}
register_released_names("MiniCPMVForConditionalGeneration", PREFIXES)


def released_name(name: str) -> str:
    """Our name of a tensor -> its name in the released layout."""
    ours = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    return PREFIXES.get(ours, "") + name.removeprefix(ours)


def summarize(names: Iterable[str], most: int = 5) -> str:
    """The first names in order, and the number of the others."""
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


class MiniCPMVPreTrainedModel(PreTrainedModel):
    config_class = MiniCPMVConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _no_split_modules = ["LlamaDecoderLayer", "Qwen2DecoderLayer", "SiglipEncoderLayer", "Resampler"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Resampler):
            init.trunc_normal_(module.query, std=0.02)
            init.normal_(module.proj, std=module.proj.shape[0] ** -0.5)


class MiniCPMVModel(MiniCPMVPreTrainedModel):
    """The backbone: everything but the output layer."""

    def __init__(self, config: MiniCPMVConfig):
        super().__init__(config)
        vision = config.vision_config
        assert isinstance(vision, MiniCPMVVisionConfig)
        self.vision_model = VisionModel._from_config(vision)
        self.resampler = Resampler(config.query_num, config.hidden_size, vision.hidden_size)
        self.language_model = LANGUAGE_MODELS[config.version](config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        embeddings: nn.Module = self.language_model.embed_tokens
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.embed_tokens = value

    def get_image_features(
        self, pixel_values: torch.Tensor | None, tgt_sizes: torch.Tensor, vision_states: torch.Tensor | None = None
    ) -> torch.Tensor:
        """pixel_values [S, 3, side, P * side] (or their states [S, P, D_vision] after the vision encoder) and tgt_sizes
        [S, 2] (rows and columns of patches) -> [S, Q, D].
        """
        hidden = self.vision_model(pixel_values, tgt_sizes) if vision_states is None else vision_states
        features: torch.Tensor = self.resampler(hidden, tgt_sizes, patch_mask(tgt_sizes, hidden.shape[1]))
        return features

    def blank_features(self, encoded: bool) -> torch.Tensor:
        """Features [1, Q, D] of one black patch; encoded: of one blank state of the vision encoder. A process without
        images must still run what the others run, or they wait for it forever: for gradients, and under FSDP2 and
        ZeRO-3 for weights.
        """
        weight = self.vision_model.embeddings.patch_embedding.weight
        grid = torch.ones(1, 2, dtype=torch.int32, device=weight.device)
        if encoded:
            return self.get_image_features(None, grid, weight.new_zeros(1, 1, len(weight)))
        return self.get_image_features(weight.new_zeros(1, *weight.shape[1:]), grid)  # [1, 3, side, side]

    def merge(self, input_ids: torch.Tensor, embeds: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Replace the embeddings of placeholders in input_ids [B, T], in order, by features [S, Q, D] -> [B, T, D].

        Errors:
            ValueError: the number of placeholders is not S * Q.
        """
        is_placeholder = input_ids == self.config.image_token_id  # [B, T]
        if is_placeholder.sum() != features.shape[0] * features.shape[1]:
            raise ValueError(
                f"Image features and image tokens do not match: {features.shape[0] * features.shape[1]} features for "
                f"{int(is_placeholder.sum())} tokens; create input_ids and pixel_values in one call of the processor"
            )
        return embeds.masked_scatter(is_placeholder.unsqueeze(-1), features.to(embeds.dtype))

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        tgt_sizes: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        image_repeats: int = 1,
        vision_states: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        folded_ids: torch.Tensor | None = None,
        folds: Folds = (),
        unfold: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """input_ids [B, T] -> last_hidden_state [B, T, D]; images as in `get_image_features`, for the first B /
        image_repeats rows only.

        vision_states [S, P, D_vision]: output of the vision encoder, instead of pixel_values.
        image_features [S, Q, D]: output of the resampler, instead of both.
        folded_ids [1, F], folds, unfold [B, T]: what is computed instead of input_ids, a row of prompts with their
        answers (see `model.shared_prefix`), and where in the row each token of the sequences is. Without them, folds
        are those of the row input_ids [1, F], whose position_ids are given.
        """
        if unfold is not None:
            assert folded_ids is not None
            input_ids, position_ids = folded_ids, folded_positions(folds).to(folded_ids.device)
        if folds:
            assert input_ids is not None and past_key_values is None
            flex = self.config._attn_implementation == FLEX
            mask: Any = block_mask(folds, input_ids.device) if flex else FoldedMask.of(folds, input_ids.device)
            attention_mask = mask
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("got both or none of input_ids and inputs_embeds; pass exactly one")
        if input_ids is not None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
            assert pixel_values is None or tgt_sizes is not None, "images need their tgt_sizes"
            if tgt_sizes is not None and len(tgt_sizes):
                if image_features is None:
                    image_features = self.get_image_features(pixel_values, tgt_sizes, vision_states)
                inputs_embeds = self.merge(input_ids, inputs_embeds, image_features.repeat(image_repeats, 1, 1))
            elif past_key_values is None and torch.distributed.is_initialized() and image_features is None:
                inputs_embeds = inputs_embeds + 0.0 * self.blank_features(vision_states is not None).sum()
        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **kwargs,
        )
        if unfold is not None:
            outputs.last_hidden_state = outputs.last_hidden_state[0][unfold]  # [B, T, D]
        result: BaseModelOutputWithPast = outputs
        return result


class MiniCPMVForConditionalGeneration(MiniCPMVPreTrainedModel, GenerationMixin):
    """MiniCPM-V with its output layer; `from_pretrained` and `save_pretrained` use the released checkpoint layout."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012  # if the config ties them

    def __init__(self, config: MiniCPMVConfig):
        super().__init__(config)
        self.model = MiniCPMVModel(config)
        self.lm_head = OutputLayer(config.hidden_size, config.vocab_size)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, but a checkpoint that does not fit the model is an error.

        Errors: ValueError: tensors are missing, unexpected or of another shape (the message has their released names),
        or a file is truncated.
        """
        with_info = kwargs.pop("output_loading_info", False)
        options = {**kwargs, "output_loading_info": True, "ignore_mismatched_sizes": True}  # raised below
        try:
            loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, **options)
        except SafetensorError as error:
            raise ValueError(
                f"{pretrained_model_name_or_path}: a weights file is damaged or truncated ({error}); copy it again"
            ) from error
        model, info = loaded
        problems = {
            "missing": map(released_name, info["missing_keys"]),
            "unexpected": map(released_name, info["unexpected_keys"]),
            "wrong shape": (
                f"{released_name(name)} {list(shape)} instead of {list(expected)}"
                for name, shape, expected in info["mismatched_keys"]
            ),
        }
        messages = [f"{kind} {names}" for kind, tensors in problems.items() if (names := summarize(tensors))]
        if messages:
            raise ValueError(
                f"{pretrained_model_name_or_path}: the weights are not those of the MiniCPM-V {model.config.version} "
                f"that config.json describes: {'; '.join(messages)}; use the config.json that belongs to the weights"
            )
        return (model, info) if with_info else model

    def get_output_embeddings(self) -> nn.Module:
        head: nn.Module = self.lm_head
        return head

    def set_output_embeddings(self, value: Any) -> None:
        """The weight of `value`, which is a plain linear layer when the vocabulary is resized."""
        with torch.device("meta"):
            self.lm_head = OutputLayer(*reversed(value.weight.shape))
        self.lm_head.weight = value.weight

    def get_image_features(self, pixel_values: torch.Tensor, tgt_sizes: torch.Tensor) -> torch.Tensor:
        """As `MiniCPMVModel.get_image_features`."""
        features: torch.Tensor = self.model.get_image_features(pixel_values, tgt_sizes)
        return features

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        tgt_sizes: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        image_repeats: int = 1,
        labels: torch.Tensor | None = None,
        loss_weights: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As `MiniCPMVModel.forward`, with logits [B, T, V]; or, given labels [B, T] (-100: no loss), with their mean
        loss and without logits, which are then never held for all tokens (see `model.output_layer`).

        loss_weights [B, T]: of the labels; without them each counts the same.
        num_items_in_batch: the sum of weights, or number of labels, that the loss is divided by. With gradient
        accumulation, Trainer passes that of all batches of a step. Default: that of this batch.

        The arguments are spelled out because `generate` rejects arguments that are not in the signature.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            tgt_sizes=tgt_sizes,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            image_repeats=image_repeats,
            **kwargs,
        )
        logits: Any = None
        loss: Any = None
        if labels is None:
            keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(outputs.last_hidden_state[:, keep, :])
        else:
            loss = mean_loss(self.lm_head, outputs.last_hidden_state, labels, loss_weights, num_items_in_batch)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def prepare_inputs_for_generation(self, *args: Any, is_first_iteration: bool | None = False, **kwargs: Any) -> Any:
        kwargs["is_first_iteration"] = is_first_iteration
        inputs = super().prepare_inputs_for_generation(*args, **kwargs)  # type: ignore[misc]
        if not is_first_iteration:  # the images are in the cache
            inputs.pop("pixel_values", None)
            inputs.pop("tgt_sizes", None)
        return inputs
