"""Measures the steps of a Trainer: seconds, tokens, operations, memory; and the peak matmul rate."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Trainer, TrainerCallback

from bench.isolated import peak_memory

Batch = dict[str, Any]


class Meter(TrainerCallback):
    """Times every step but the first, which is a warm-up and in which it counts tokens and operations.

    tokens: the number in a batch. Operations are those of matrix products and attention, including what gradient
    checkpointing computes again.
    """

    def __init__(self, trainer: Trainer, tokens: Callable[[Batch], int]):
        self.tokens = self.operations = self.steps = 0  # steps: the timed ones
        self._start = self._end = 0.0
        step = trainer.training_step

        def counted(model: Any, inputs: Batch, *rest: Any) -> torch.Tensor:
            if self.operations:
                return step(model, inputs, *rest)
            self.tokens = tokens(inputs)
            with FlopCounterMode(display=False) as counter:
                loss = step(model, inputs, *rest)
            self.operations = counter.get_total_flops()
            return loss

        trainer.training_step = counted  # type: ignore[method-assign, assignment]
        trainer.add_callback(self)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._end = time.perf_counter()
        if state.global_step == 1:
            self._start = self._end
        self.steps = state.global_step - 1

    @property
    def seconds(self) -> float:
        """Seconds of the timed steps."""
        return self._end - self._start


def peak() -> float:
    """Peak memory in MiB: of the GPU if there is one, of this process otherwise."""
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else peak_memory()


def matrix_rate(seconds: float = 2.0) -> float:
    """Operations per second of one large bfloat16 matrix product, the best of several."""
    on_gpu = torch.cuda.is_available()
    size = 8192 if on_gpu else 1024
    matrix = torch.randn(size, size, dtype=torch.bfloat16, device="cuda" if on_gpu else "cpu")
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        if on_gpu:
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best
