"""A training stage whose second process kills itself: `python -m tests.support.kills.process STEP MODULE ARGUMENTS`."""

import os
import runpy
import signal
import sys
import time
from typing import Any

from transformers import Trainer


def kill_second_process_at(step: int) -> None:
    """Before its update number `step`, counted from 0."""
    original: Any = Trainer.training_step

    def training_step(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step and self.args.process_index == 1:
            print(f"kills itself at {time.time()}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *args, **kwargs)

    Trainer.training_step = training_step  # type: ignore[method-assign]


if __name__ == "__main__":
    step, module = sys.argv[1:3]
    kill_second_process_at(int(step))
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
