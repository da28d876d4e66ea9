"""The compiled program `edge-llama`, run as a process: it quantizes and answers, and may crash without harm."""

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.runtime.installed import HOST, PROGRAM, WAITING, find_build
from rlaif.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import numpy as np

FILE_TYPES = {"f16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "Q6_K": 18}  # quantization -> llama_ftype
ROW = -1  # an id in whose place a row of features stands


@dataclass(frozen=True)
class Answer:
    """Greedy ids; seconds of the prompt, and of all steps after it."""

    ids: list[int]
    prompt_tokens: int
    prompt_seconds: float
    seconds: float


def quantize(source: Path, target: Path, kind: str, threads: int | None = None, build: str = HOST) -> None:
    """Write a quantized copy of a GGUF file in f16 or f32.

    kind: one of FILE_TYPES. threads: by default the cores that this process may use.
    Errors: ConfigError for an unknown kind; ModelError where llama.cpp refuses the file or there is no build of it;
    `target` is removed then.
    """
    if kind not in FILE_TYPES:
        raise ConfigError(
            f"QUANT={kind} is not a quantization; expected one of {', '.join(FILE_TYPES)}; use Q4_K_M if unsure"
        )
    quantize_with(find_build(build).folder, source, target, kind, threads)


def quantize_with(
    folder: Path, source: Path, target: Path, kind: str, threads: int | None = None, runner: Sequence[str] = ()
) -> None:
    """As `quantize`, with the build in a folder. runner: an emulator, for a build of another machine."""
    file_type, workers = str(FILE_TYPES[kind]), str(threads or len(os.sched_getaffinity(0)))
    try:
        _run(folder, ["quantize", str(source), str(target), file_type, workers], runner)
    except ModelError as error:
        target.unlink(missing_ok=True)
        raise ModelError(
            f"llama.cpp could not write {source} as {kind}: {error}; expected a whole GGUF file in f16 or f32; "
            "write it again with `make export-edge`"
        ) from error


def answer_with(
    folder: Path, model: Path, prompt: Path, tokens: int, threads: int, runner: Sequence[str] = ()
) -> Answer:
    """The greedy answer of exactly `tokens` ids to a prompt that `write_prompt` wrote. Errors: ModelError."""
    output = _run(folder, ["answer", str(model), str(prompt), str(tokens), str(threads)], runner)
    return Answer(**json.loads(output))


def write_prompt(file: Path, ids: Sequence[int], rows: "np.ndarray | None" = None) -> None:
    """A prompt for the program. ids [T], ROW where the next row of features stands; rows: float32 [R, D]."""
    import numpy as np

    features = np.zeros((0, 0), np.float32) if rows is None else np.asarray(rows, np.float32)
    assert list(ids).count(ROW) == len(features), "a row for each ROW"
    sizes = [len(ids), features.shape[1], len(features)]
    file.write_bytes(np.array([*sizes, *ids], "<i4").tobytes() + features.astype("<f4").tobytes())


def _run(folder: Path, arguments: Sequence[str], runner: Sequence[str]) -> str:
    """What the program prints. Errors: ModelError with its last line, or the signal that ended it."""
    command = [*runner, str((folder / PROGRAM).resolve()), *arguments]
    environment = {**WAITING, **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    if done.returncode == 0:
        return done.stdout
    lines = [line.removeprefix("error: ") for line in done.stderr.strip().splitlines()]
    raise ModelError(describe_end(done.returncode, lines))


def describe_end(status: int, lines: Sequence[str]) -> str:
    """Why a program ended: the signal, by number or as an emulator reports it, or its own lines."""
    number = -status if status < 0 else status - 128
    if 0 < number < signal.NSIG:
        return f"it was ended by {signal.Signals(number).name}"
    return ": ".join(line for line in dict.fromkeys(lines[-2:])) or f"it ended with status {status}"
