"""Shared by DPO and training: strict arguments for Trainer of transformers, and its progress as text."""

import difflib
import time
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from rlaif.errors import ConfigError
from rlaif.processes import device_defaults, settle_process

Arguments = TypeVar("Arguments", bound=TrainingArguments)

LOGGED = {"loss": "loss", "learning_rate": "learning rate", "grad_norm": "gradient norm"}  # logged key -> label


def parse_trainer_arguments(
    kind: type[Arguments],
    section: str,
    values: Mapping[str, Any],
    defaults: Mapping[str, Any],
    refused: Mapping[str, str],
) -> Arguments:
    """A `trainer` section as the arguments of a Trainer. What the library would silently ignore is an error.

    Args:
        kind: TrainingArguments or a subclass of it.
        section: dotted name of the section, for messages.
        values: the section, which overrides `defaults`.
        refused: keys that a user must not set -> what to do instead.

    Errors: ConfigError for an unknown or refused key, a value of the wrong type, or values that contradict one another.
    """
    hints = get_type_hints(kind)
    checked = {key: _checked(kind, hints, section, key, value, refused) for key, value in values.items()}
    try:
        arguments = kind(**{**device_defaults(), **defaults, **checked})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{section}: {' '.join(str(error).split())}") from error
    settle_process(arguments)
    return arguments


def _checked(
    kind: type[TrainingArguments],
    hints: Mapping[str, Any],
    section: str,
    key: str,
    value: Any,
    refused: Mapping[str, str],
) -> Any:
    """The value, converted to the type of its field. Errors: ConfigError."""
    if key in refused:
        raise ConfigError(f"{section}.{key} cannot be set: {refused[key]}")
    fields = kind.__dataclass_fields__
    if key not in fields:
        close = difflib.get_close_matches(key, fields.keys() - refused.keys())
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        library = {"transformers": "transformers'", "trl": "TRL's"}[kind.__module__.partition(".")[0]]
        raise ConfigError(f"unknown key '{section}.{key}'; {hint}allowed are the fields of {library} {kind.__name__}")
    try:
        return TypeAdapter(hints[key]).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{section}.{key} is {value!r}: {error.errors()[0]['msg']}") from error


class TextProgress(TrainerCallback):
    """One bar over all steps, and one line of text for each entry of the log."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = labels
        self.first_step = 0
        self.started = 0.0
        self.bar: Any = None

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        self.first_step, self.started = state.global_step, time.monotonic()
        if state.is_world_process_zero:
            disabled = args.disable_tqdm or None  # None: shown on a terminal only
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", disable=disabled)

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: TrainingArguments, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self.bar is not None and (line := self.line(logs, state.global_step, state.max_steps)):
            self.bar.write(line)

    def on_train_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None

    def line(self, logs: Mapping[str, Any], step: int, steps: int) -> str:
        """`step 20/651, loss 0.283, 1.9 steps/s, 5:32 left`; empty for the summary at the end."""
        prefix = "eval_" if any(key.startswith("eval_") for key in logs) else ""
        labeled = [f"{label} {logs[prefix + key]:.4g}" for key, label in self.labels.items() if prefix + key in logs]
        if not labeled:
            return ""
        line = f"  step {step}/{steps}, {'validation ' if prefix else ''}{', '.join(labeled)}"
        rate = (step - self.first_step) / max(time.monotonic() - self.started, 1e-9)
        if rate > 0 and not prefix:
            line += f", {rate:.2g} steps/s, {tqdm.format_interval((steps - step) / rate)} left"
        return line


def report_as_text(trainer: Trainer, labels: Mapping[str, str]) -> None:
    """Replace the trainer's dictionaries on the screen by `TextProgress`; labels: logged key -> its name in a line."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(TextProgress(labels))
