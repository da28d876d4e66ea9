"""Trials as processes: one that dies, hangs or is refused is recorded, and the search goes on."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.runtime.program import describe_end
from edge.settings import Settings
from edge.tuning.halving import Outcome

COMMAND = (sys.executable, "-m", "edge.tuning.trial")


@dataclass(frozen=True)
class Work:
    """What each trial does: a GGUF file, tokens of the prompt and of the answer."""

    file: Path
    prompt: int
    answer: int


def run_trial(
    work: Work, settings: Settings, repeats: int, limit: float | None = None, command: Sequence[str] = COMMAND
) -> Outcome:
    """The outcome of a trial in a process of its own. limit: seconds after which it is ended."""
    request = {
        "file": str(work.file),
        "settings": asdict(settings),
        "prompt": work.prompt,
        "answer": work.answer,
        "repeats": repeats,
    }
    try:
        done = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, errors="replace", timeout=limit
        )
    except subprocess.TimeoutExpired:
        return Outcome(error=f"no result after {limit:.0f} s")
    if done.returncode != 0:
        lines = [line.removeprefix("error: ") for line in done.stderr.strip().splitlines()[-1:]]
        return Outcome(error=describe_end(done.returncode, lines))
    values = json.loads(done.stdout)
    return Outcome(values["prompt_seconds"], values["answer_seconds"])
