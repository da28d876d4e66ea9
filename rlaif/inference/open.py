"""Opens the engine that a configuration names."""

from rlaif.config import EngineSection, ModelSection
from rlaif.inference.engine import Engine
from rlaif.inference.vllm_engine import VllmEngine


def open_engine(model: ModelSection, engine: EngineSection, seed: int) -> Engine:
    """Load a model for inference, or connect to its endpoint.

    Errors: ModelError where there is no model in the folder or vLLM cannot load it.
    """
    if model.endpoint is not None:
        from rlaif.inference.endpoint import EndpointEngine

        return EndpointEngine(model.model, model.endpoint, model.chat_template_kwargs, model.max_pixels)
    return VllmEngine(model, engine, seed)
