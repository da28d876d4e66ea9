"""The stages of MiniCPM-V's training (arXiv 2408.01800, sections 4.1 and 4.2): after which each comes.

What each trains is in rlaif.config.training.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlaif.config import TrainingConfig
from rlaif.config.training import StageName

Order = Literal["mixed", "listed"]


@dataclass(frozen=True)
class PaperStage:
    """The previous stage, whether images are sliced, the order of rows, and the make command."""

    after: StageName | None
    slicing: bool
    order: Order
    command: str | None


STAGES: dict[StageName, PaperStage] = {
    "pretrain-1": PaperStage(None, slicing=False, order="mixed", command="make pretrain STAGE=1"),
    "pretrain-2": PaperStage("pretrain-1", slicing=False, order="mixed", command="make pretrain STAGE=2"),
    "pretrain-3": PaperStage("pretrain-2", slicing=True, order="mixed", command="make pretrain STAGE=3"),
    "sft-1": PaperStage("pretrain-3", slicing=True, order="listed", command="make sft PART=1"),
    "sft-2": PaperStage("sft-1", slicing=True, order="listed", command="make sft PART=2"),
    "finetune": PaperStage(None, slicing=True, order="mixed", command=None),
}


def order_of(config: TrainingConfig) -> Order:
    """The order of rows that the configuration sets, or that of its stage."""
    return config.order or STAGES[config.stage].order


def next_command(stage: StageName, run: Path) -> str | None:
    """The command of the stage that continues from the model of this run; None after the last."""
    command = next((other.command for other in STAGES.values() if other.after == stage), None)
    if command is None or run == Path("runs", "training", stage):  # which the configuration of the next stage names
        return command
    return f'{command} SET="model={run / "model"}"'
