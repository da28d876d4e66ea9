"""Opens the engine that a configuration asks for."""

from rlaif.config import EngineSection, ModelSection
from rlaif.inference.engine import Engine
from rlaif.inference.vllm_engine import VllmEngine


def open_engine(model: ModelSection, engine: EngineSection, seed: int) -> Engine:
    """Load a model for inference, or turn to the endpoint that has it.

    Errors: ModelError when the folder holds no model or vLLM cannot load it.
    """
    if model.endpoint is not None:
        from rlaif.inference.endpoint import EndpointEngine

        return EndpointEngine(model.model, model.endpoint)
    return VllmEngine(model, engine, seed)
