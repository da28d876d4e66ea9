"""vLLM's native MiniCPM-V with our image processor, so that it needs no remote code and slices as training does."""

from functools import cached_property

from vllm.model_executor.models.minicpmv import (
    MiniCPMV,
    MiniCPMVDummyInputsBuilder,
    MiniCPMVMultiModalProcessor,
    MiniCPMVProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.transformers_utils.processors.minicpmv import MiniCPMVProcessor as VllmMiniCPMVProcessor

from model.image_processing import MiniCPMVImageProcessor


class ProcessingInfo(MiniCPMVProcessingInfo):
    """The image processor of the checkpoint, by our class."""

    @cached_property
    def image_processor(self) -> MiniCPMVImageProcessor:
        checkpoint = self.ctx.model_config
        return MiniCPMVImageProcessor.from_pretrained(checkpoint.model, revision=checkpoint.revision or "main")

    def get_hf_processor(self, **kwargs: object) -> VllmMiniCPMVProcessor:
        return VllmMiniCPMVProcessor(
            image_processor=self.image_processor, tokenizer=self.get_tokenizer(), version=self.get_model_version()
        )


@MULTIMODAL_REGISTRY.register_processor(
    MiniCPMVMultiModalProcessor, info=ProcessingInfo, dummy_inputs=MiniCPMVDummyInputsBuilder
)
class MiniCPMVForVLLM(MiniCPMV):
    pass
