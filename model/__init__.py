"""MiniCPM-V: slicing, vision encoder, resampler, language model, processor, and its registration with vLLM.

Names are imported on first use, so that importing the package is fast. `register` makes them available to transformers'
Auto classes.
"""

from importlib import import_module
from typing import Any

_EXPORTS = {
    "MiniCPMVConfig": "model.configuration",
    "MiniCPMVImageProcessor": "model.image_processing",
    "MiniCPMVProcessor": "model.processing",
    "MiniCPMVForConditionalGeneration": "model.modeling",
}

__all__ = [
    "MiniCPMVConfig",
    "MiniCPMVForConditionalGeneration",
    "MiniCPMVImageProcessor",
    "MiniCPMVProcessor",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'model' has no attribute {name!r}")
    register()
    return getattr(import_module(_EXPORTS[name]), name)


def register() -> None:
    """Register `minicpmv` with AutoConfig, AutoProcessor, AutoImageProcessor and AutoModelForImageTextToText; safe to
    call more than once.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

    from model.configuration import MiniCPMVConfig
    from model.image_processing import MiniCPMVImageProcessor
    from model.modeling import MiniCPMVForConditionalGeneration
    from model.processing import MiniCPMVProcessor

    AutoConfig.register("minicpmv", MiniCPMVConfig, exist_ok=True)
    AutoImageProcessor.register(MiniCPMVConfig, slow_image_processor_class=MiniCPMVImageProcessor, exist_ok=True)
    AutoProcessor.register(MiniCPMVConfig, MiniCPMVProcessor, exist_ok=True)
    AutoModelForImageTextToText.register(MiniCPMVConfig, MiniCPMVForConditionalGeneration, exist_ok=True)
