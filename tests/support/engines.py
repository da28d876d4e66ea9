"""Real vLLM engines as tests look into them."""

from typing import Any

import pytest

from rlaif.inference.engine import Request
from rlaif.inference.vllm_engine import VllmEngine


def prompt_tokens(engine: VllmEngine, request: Request, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tokens, placeholders included, that vLLM made of a request."""
    seen = []
    step = engine._llm.llm_engine.step

    def spy() -> list[Any]:
        outputs = step()
        seen.extend(output.prompt_token_ids for output in outputs)
        return outputs

    with monkeypatch.context() as patch:
        patch.setattr(engine._llm.llm_engine, "step", spy)
        engine.generate([request])
    (ids,) = seen
    return ids
