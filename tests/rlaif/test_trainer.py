"""What DPO and training share of transformers' Trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from rlaif.errors import ConfigError
from rlaif.trainer import LOGGED, TextProgress, parse_trainer_arguments, report_as_text

REFUSED = {"output_dir": "checkpoints are in the run folder"}


def parse(tmp_path: Path, **values: Any) -> TrainingArguments:
    defaults = {"output_dir": str(tmp_path), "use_cpu": True, "learning_rate": 0.5, "weight_decay": 0.25}
    return parse_trainer_arguments(TrainingArguments, "trainer", values, defaults, REFUSED)


def test_values_override_defaults_and_are_converted(tmp_path: Path) -> None:
    arguments = parse(tmp_path, learning_rate="1e-3", optim="sgd")
    assert (arguments.learning_rate, arguments.weight_decay, arguments.optim) == (1e-3, 0.25, "sgd")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rat": 1e-6}, "unknown key 'trainer.learning_rat'; did you mean learning_rate.*transformers' Train"),
        ({"learning_rate": "fast"}, "trainer.learning_rate is 'fast': Input should be a valid number"),
        ({"output_dir": "elsewhere"}, "trainer.output_dir cannot be set: checkpoints are in the run folder"),
        ({"optim": "sgdd"}, "^trainer: sgdd is not a valid OptimizerNames"),
    ],
)
def test_other_keys_and_values_are_errors_of_one_line(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(tmp_path, **values)
    assert "\n" not in str(caught.value)


class Squares(Dataset[dict[str, torch.Tensor]]):
    """Four inputs with their labels."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"x": torch.tensor([float(index)]), "labels": torch.tensor([float(index**2)])}


class Line(torch.nn.Module):
    """A linear model that returns its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = self.layer(x)
        return {"loss": ((outputs - labels) ** 2).mean(), "logits": outputs}


def test_a_training_prints_one_line_a_logging_step_and_no_dictionary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = parse(
        tmp_path, max_steps=4, logging_steps=2, eval_strategy="steps", eval_steps=4, save_strategy="no",
        report_to="none", dataloader_pin_memory=False, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model=Line(), args=arguments, train_dataset=Squares(), eval_dataset=Squares())
    report_as_text(trainer, LOGGED)
    trainer.train()
    first, second, validation = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("step 2/4, loss ") and first.endswith(" left")
    assert all(label in first for label in ("learning rate ", "gradient norm ", " steps/s, "))
    assert second.startswith("  step 4/4, loss ") and validation.startswith("  step 4/4, validation loss ")


def test_a_line_has_the_labels_and_the_summary_at_the_end_has_none() -> None:
    progress = TextProgress({"loss": "loss", "rewards/margins": "margin"})
    assert progress.line({"loss": 0.69314718, "rewards/margins": 0.25, "epoch": 1.0}, 0, 8) == (
        "  step 0/8, loss 0.6931, margin 0.25"
    )
    assert progress.line({"train_loss": 0.7, "train_runtime": 3.0}, 8, 8) == ""
