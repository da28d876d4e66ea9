"""What a stage costs before it does anything: imports and the start of its engine, ours against vLLM's own.

    make bench NAME=startup

Both make the same engine for the embedded policy, each in a process of its own; ours collects no garbage while it
imports. Beside it stand the seconds that `--help` of every stage takes.
"""

import io
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from statistics import median

from bench.alone import alone
from bench.result import Result, compared
from rlaif.pipelines.stages import STAGES

MODEL = "assets/policy"


def our_start() -> float:
    """Seconds from nothing imported to an engine that takes requests."""
    began = time.perf_counter()
    from rlaif.config import EngineSection, ModelSection
    from rlaif.inference.vllm_engine import VllmEngine

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        engine = VllmEngine(ModelSection(model=MODEL), EngineSection(max_model_len=2048), 0)
        seconds = time.perf_counter() - began
        engine.close()
    return seconds


def vllm_start() -> float:
    """The same engine as vLLM's class makes it."""
    began = time.perf_counter()
    from rlaif.config import EngineSection, ModelSection
    from rlaif.inference.vllm_engine import prepare_environment, vllm_options

    on_cpu = prepare_environment()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        from transformers import AutoProcessor
        from vllm import LLM

        options = vllm_options(ModelSection(model=MODEL), EngineSection(max_model_len=2048), 0, on_cpu)
        engine = LLM(MODEL, **options)
        AutoProcessor.from_pretrained(MODEL, trust_remote_code=False)  # which ours loads too
        seconds = time.perf_counter() - began
        engine.llm_engine.engine_core.shutdown()
    return seconds


def help_seconds(stage: str) -> float:
    """Of `python -m STAGE --help`, the whole process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", stage, "--help"], check=True, capture_output=True)
    return time.perf_counter() - began


def told(repeats: int) -> Result:
    """Engines started a minute, both ways in turn."""
    for stage in STAGES:
        print(f"python -m {stage} --help: {median(help_seconds(stage) for _ in range(repeats)):.2f} s", flush=True)
    found: dict[Callable[[], float], list[float]] = {our_start: [], vllm_start: []}
    for _ in range(repeats):
        for start, rates in found.items():
            seconds = alone(start)
            print(f"{start.__name__}: {seconds:.1f} s", flush=True)
            rates.append(60 / seconds)
    return compared(found[our_start], found[vllm_start], "starts/min")
