"""Trials that work, die, hang or are refused."""

import sys
from pathlib import Path

import pytest

from edge.settings import Settings
from edge.tuning.process import Work, run_trial

WORK = Work(Path("model.gguf"), 8, 2)


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_a_trial_gets_its_settings_and_gives_seconds() -> None:
    script = (
        "import json, sys; request = json.load(sys.stdin); assert request['settings']['threads'] == 3;"
        "print(json.dumps({'prompt_seconds': [0.5] * request['repeats'], 'answer_seconds': [0.25] * 2}))"
    )
    outcome = run_trial(WORK, Settings(threads=3), 2, command=python(script))
    assert outcome.error is None and outcome.seconds == [0.75, 0.75]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("import os; os.kill(os.getpid(), 4)", "it was ended by SIGILL"),
        ("import time; time.sleep(60)", "no result after 1 s"),
        ("import sys; sys.exit('error: refused')", "refused"),
    ],
)
def test_a_trial_that_fails_says_why(script: str, error: str) -> None:
    outcome = run_trial(WORK, Settings(), 1, limit=1 if "sleep" in script else 60, command=python(script))
    assert outcome.error == error and outcome.seconds == []
