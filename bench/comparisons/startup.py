"""Start-up time of a stage: imports and the start of its engine, ours against vLLM alone.

    make bench NAME=startup

Both start the same engine for the embedded policy, each in a new process; ours pauses garbage collection during
imports. The time of `--help` of every stage is printed too.
"""

import io
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from statistics import median

from bench.isolated import run_isolated
from bench.result import Result, compare_rates
from rlaif.pipelines.stages import STAGES

MODEL = "assets/policy"


def our_start() -> float:
    """Seconds from the first import to an engine that accepts requests."""
    start = time.perf_counter()
    from rlaif.config import EngineSection, ModelSection
    from rlaif.inference.vllm_engine import VllmEngine

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        engine = VllmEngine(ModelSection(model=MODEL), EngineSection(max_model_len=2048), 0)
        seconds = time.perf_counter() - start
        engine.close()
    return seconds


def vllm_start() -> float:
    """The same with vLLM's class."""
    start = time.perf_counter()
    from rlaif.config import EngineSection, ModelSection
    from rlaif.inference.vllm_engine import prepare_environment, vllm_options

    on_cpu = prepare_environment()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        from transformers import AutoProcessor
        from vllm import LLM

        options = vllm_options(ModelSection(model=MODEL), EngineSection(max_model_len=2048), 0, on_cpu)
        engine = LLM(MODEL, **options)
        AutoProcessor.from_pretrained(MODEL, trust_remote_code=False)  # ours loads it too
        seconds = time.perf_counter() - start
        engine.llm_engine.engine_core.shutdown()
    return seconds


def help_seconds(stage: str) -> float:
    """Seconds of `python -m STAGE --help`, the whole process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", stage, "--help"], check=True, capture_output=True)
    return time.perf_counter() - start


def compare(repeats: int) -> Result:
    """Engine starts per minute, measured in turn."""
    for stage in STAGES:
        print(f"python -m {stage} --help: {median(help_seconds(stage) for _ in range(repeats)):.2f} s", flush=True)
    rates_of: dict[Callable[[], float], list[float]] = {our_start: [], vllm_start: []}
    for _ in range(repeats):
        for start, rates in rates_of.items():
            seconds = run_isolated(start)
            print(f"{start.__name__}: {seconds:.1f} s", flush=True)
            rates.append(60 / seconds)
    return compare_rates(rates_of[our_start], rates_of[vllm_start], "starts/min")
