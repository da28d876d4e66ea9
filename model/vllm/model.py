"""vLLM's native MiniCPM-V with our image processor and, where vLLM lacks them, our position embeddings.

With our image processor it needs no remote code and slices images as training does.
"""

from functools import cached_property
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.model_executor.models.idefics2_vision_model import Idefics2VisionEmbeddings
from vllm.model_executor.models.minicpmv import (
    MiniCPMV,
    MiniCPMV2_5,
    MiniCPMV2_6,
    MiniCPMVDummyInputsBuilder,
    MiniCPMVMultiModalProcessor,
    MiniCPMVProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.transformers_utils.processors.minicpmv import MiniCPMVProcessor as VllmMiniCPMVProcessor

from model.configuration import RELEASED_POSITIONS, MiniCPMVVisionConfig
from model.image_processing import MiniCPMVImageProcessor
from model.vision import positions
from model.vllm.private import replace_vision_embeddings


class ProcessingInfo(MiniCPMVProcessingInfo):
    """Loads the checkpoint's image processor with our class."""

    @cached_property
    def image_processor(self) -> MiniCPMVImageProcessor:
        checkpoint = self.ctx.model_config
        return MiniCPMVImageProcessor.from_pretrained(checkpoint.model, revision=checkpoint.revision or "main")

    def get_hf_processor(self, **kwargs: object) -> VllmMiniCPMVProcessor:
        return VllmMiniCPMVProcessor(
            image_processor=self.image_processor, tokenizer=self.get_tokenizer(), version=self.get_model_version()
        )


class PositionedEmbeddings(Idefics2VisionEmbeddings):
    """Patch embeddings plus `model.vision.positions` of the configured kind."""

    def __init__(self, config: MiniCPMVVisionConfig):
        super().__init__(config)  # type: ignore[arg-type]  # of the same shape
        self.kind = config.position_embedding_type

    def forward(
        self,
        pixel_values: torch.Tensor,
        patch_attention_mask: torch.Tensor,
        tgt_sizes: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        assert tgt_sizes is not None, "positions need the grid of each slice"
        patches = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))  # [S, D, 1, P]
        patches = patches.flatten(2).transpose(1, 2)  # [S, P, D]
        sizes = tgt_sizes.to(patches.device)
        table = self.position_embedding.weight
        embedded: torch.Tensor = patches + positions(
            table, self.kind, sizes, patches.shape[1], self.num_patches_per_side
        )
        return embedded


class PositionedMiniCPMV2_5(MiniCPMV2_5):
    """Version 2.5 that passes the grid of each slice to the encoder, as vLLM does for 2.6 only."""

    get_vision_hidden_states = MiniCPMV2_6.get_vision_hidden_states


WITH_POSITIONS: dict[str, type[MiniCPMV2_5 | MiniCPMV2_6]] = {"2.5": PositionedMiniCPMV2_5, "2.6": MiniCPMV2_6}


@MULTIMODAL_REGISTRY.register_processor(
    MiniCPMVMultiModalProcessor, info=ProcessingInfo, dummy_inputs=MiniCPMVDummyInputsBuilder
)
class MiniCPMVForVLLM(MiniCPMV):
    """vLLM's native class if it implements the checkpoint's position embedding, ours otherwise."""

    def __new__(cls, *, vllm_config: VllmConfig, prefix: str = "") -> Any:
        config = vllm_config.model_config.hf_config
        if config.vision_config.position_embedding_type == RELEASED_POSITIONS[config.version]:
            return super().__new__(cls, vllm_config=vllm_config, prefix=prefix)
        served = WITH_POSITIONS[config.version](vllm_config=vllm_config, prefix=prefix)
        replace_vision_embeddings(served, PositionedEmbeddings(config.vision_config))
        return served
