"""Measures the steps of a Trainer: seconds, tokens, operations, memory, what the time goes to; and the matrix rate."""

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from bench.isolated import peak_memory
from bench.limits.profile import Operations, Profile

Batch = dict[str, Any]
UNTIMED = 2  # steps


def clock() -> float:
    """Seconds. On one thread of a CPU those that this process computed, whatever else the machine does meanwhile."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if alone else time.perf_counter()


class Meter(TrainerCallback):
    """Times every step but two: the first is a warm-up, in which operations are counted, the second is profiled.

    tokens: the number in a batch. Operations are those of matrix products and attention, including what gradient
    checkpointing computes again.
    """

    def __init__(self, trainer: Trainer, tokens: Callable[[Batch], int]):
        self.steps = 0  # the timed ones
        self.counted: Operations | None = None  # of the first step
        self.profile: Profile | None = None  # of the second
        self._tokens: list[int] = []
        self._start = self._end = 0.0
        step = trainer.training_step

        def measured(model: Any, inputs: Batch, *rest: Any) -> torch.Tensor:
            self._tokens.append(tokens(inputs))
            if self.counted is None:
                with Operations() as self.counted:
                    return step(model, inputs, *rest)
            if self.profile is None:
                with Profile() as self.profile:
                    return step(model, inputs, *rest)
            return step(model, inputs, *rest)

        trainer.training_step = measured  # type: ignore[method-assign, assignment]
        trainer.add_callback(self)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._end = clock()
        if state.global_step == UNTIMED:
            self._start = self._end
        self.steps = state.global_step - UNTIMED

    @property
    def seconds(self) -> float:
        """Seconds of the timed steps, see `clock`."""
        return self._end - self._start

    @property
    def tokens(self) -> float:
        """Tokens of a timed step, the mean."""
        timed = self._tokens[UNTIMED:]
        return sum(timed) / max(len(timed), 1)

    @property
    def operations(self) -> int:
        """Operations of a step."""
        return self.counted.total if self.counted else 0


def peak() -> float:
    """Peak memory in MiB: of the GPU if there is one, of this process otherwise."""
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else peak_memory()


def matrix_rate(dtype: torch.dtype = torch.bfloat16, seconds: float = 2.0) -> float:
    """Operations per second of one large matrix product, repeated for that time, by the threads of this process."""
    on_gpu = torch.cuda.is_available()
    size, batch = (8192, 10) if on_gpu else (1536, 1)
    matrix = torch.randn(size, size, dtype=dtype, device="cuda" if on_gpu else "cpu")
    torch.mm(matrix, matrix)
    _wait()
    count, start = 0, clock()
    while clock() - start < seconds:
        for _ in range(batch):
            torch.mm(matrix, matrix)
        _wait()
        count += batch
    return 2 * size**3 * count / (clock() - start)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
