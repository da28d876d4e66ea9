"""Real vLLM engines, opened once for many tests; and the stages' commands, run in this process on them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rlaif.config import Config, EngineSection, ModelSection
from rlaif.inference.engine import Completion, Engine, Request
from rlaif.inference.turns import Steps

if TYPE_CHECKING:
    from rlaif.inference.vllm_engine import VllmEngine


class SharedEngine(Engine):
    """An engine that a stage may close; it stays open for the next one."""

    def __init__(self, engine: VllmEngine) -> None:
        self.engine = engine
        self.steps = engine.steps = Steps(engine.steps.max_running)

    async def answer(self, request: Request) -> list[Completion]:
        return await self.engine.answer(request)

    def close(self) -> None:
        """See SharedEngines.close."""


class SharedEngines:
    """Opens a model once for all who ask for it with the same settings. At most `limit` are open: about 1 GB each."""

    def __init__(self, limit: int = 3) -> None:
        self.limit = limit
        self.engines: dict[str, VllmEngine] = {}

    def __call__(self, model: ModelSection, engine: EngineSection, seed: int) -> SharedEngine:
        from vllm.distributed.parallel_state import model_parallel_is_initialized

        from rlaif.inference.revision import model_revision
        from rlaif.inference.vllm_engine import VllmEngine

        if not model_parallel_is_initialized():  # an engine that a test opened itself took the groups along on closing
            self.engines.clear()
        key = f"{model_revision(model)} {model.model_dump_json()} {engine.model_dump_json()} {seed}"
        opened = self.engines.pop(key, None)
        while opened is None and len(self.engines) >= self.limit:
            self.engines.pop(next(iter(self.engines))).close()  # the one that was used the longest time ago
        self.engines[key] = opened or VllmEngine(model, engine, seed)
        return SharedEngine(self.engines[key])

    def close(self) -> None:
        while self.engines:
            self.engines.popitem()[1].close()


def run_command(module: str, *arguments: str) -> None:
    """`python -m MODULE ARGUMENTS`, in this process."""
    stage = import_module(module)
    main = stage.main if hasattr(stage, "main") else import_module(f"{module}.__main__").main
    assert main(list(arguments)) == 0, f"{module} has failed: see what it printed"


def run_stages_here(stages: Sequence[str], config: Config, folder: Path) -> None:
    """What `rlaif.pipelines.stages.run_stages` does, in this process."""
    folder.mkdir(exist_ok=True)
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    for stage in stages:
        run_command(stage, "--config", str(file), "--run", str(folder))


def prompt_tokens(engine: VllmEngine, request: Request, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tokens, placeholders included, that vLLM builds from a request."""
    (output,) = outputs_of(engine, request, monkeypatch)[1]
    ids: list[int] = output.prompt_token_ids
    return ids


def sampled_tokens(
    engine: VllmEngine, request: Request, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[Completion, list[int]]]:
    """The answers to a request, each with the tokens that vLLM sampled, its end token included."""
    answers, outputs = outputs_of(engine, request, monkeypatch)
    ids = {output.index: list(output.token_ids) for item in outputs for output in item.outputs}
    return [(answer, ids[index]) for index, answer in enumerate(answers)]


def outputs_of(
    engine: VllmEngine, request: Request, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Completion], list[Any]]:
    """The answers to a request, and vLLM's finished output."""
    finished: list[Any] = []
    step = engine._llm.llm_engine.step

    def spy() -> list[Any]:
        outputs: list[Any] = step()
        finished.extend(output for output in outputs if output.finished)
        return outputs

    with monkeypatch.context() as patch:
        patch.setattr(engine._llm.llm_engine, "step", spy)
        (answers,) = engine.generate([request])
    return answers, finished
