"""Worker processes of a training end with it, also if it is killed."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Image

from rlaif.errors import InputError
from rlaif.storage.files import lock_until_exit
from tests.support import ROOT
from tests.support.tiny import noise_image


def is_running(process: int) -> bool:
    """Whether a process exists, and is not a zombie."""
    status = Path(f"/proc/{process}/stat")
    return status.is_file() and status.read_text().rpartition(") ")[2][0] != "Z"


def wait_until(condition: Callable[[], bool], seconds: int = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited for too long"
        time.sleep(0.2)


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that it has started."""
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def start(folder: Path, model: Path, rows: int, **trainer: Any) -> subprocess.Popen[bytes]:
    """A training on a table of captions, on a machine of two cores or more."""
    buffer = io.BytesIO()
    noise_image((56, 42)).save(buffer, format="PNG")
    table = [{"image": {"bytes": buffer.getvalue(), "path": None}, "caption": f"star {row}"} for row in range(rows)]
    Dataset.from_list(table).cast_column("image", Image()).to_parquet(folder / "captions.parquet")
    config = {
        "stage": "finetune",
        "model": str(model),
        "data": [str(folder / "captions.parquet")],
        "sequence_length": 192,
        "trainer": trainer,
    }
    (folder / "stage.yaml").write_text(json.dumps(config))
    code = (
        "import os; os.sched_getaffinity = lambda _: {0, 1}; import training.__main__ as m; raise SystemExit(m.main())"
    )
    arguments = ["--config", str(folder / "stage.yaml"), "--run", str(folder / "run")]
    return subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_workers_end_when_their_training_is_killed(tiny_model: Path, tmp_path: Path) -> None:
    saving = {"max_steps": 100_000, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    workers = {
        "dataloader_num_workers": 2,
        "dataloader_persistent_workers": True,
    }  # beyond an epoch, which is short here
    process = start(tmp_path, tiny_model, 8, **saving, **workers)
    try:
        wait_until(lambda: any((tmp_path / "run" / "training").glob("checkpoint-*/trainer_state.json")))
        started = children(process)
    finally:
        process.kill()
        process.wait()
    assert len(started) >= 2
    wait_until(lambda: not any(map(is_running, started)), 30)  # they look every 5 seconds


def is_locked(run: Path) -> bool:
    """Whether a process holds the lock of a run folder."""
    try:
        lock_until_exit(run / ".lock")
    except InputError:
        return True
    return False


@pytest.mark.slow
def test_workers_that_measure_rows_end_when_their_training_is_killed(tiny_model: Path, tmp_path: Path) -> None:
    """They would hold the lock of the run folder."""
    process = start(tmp_path, tiny_model, 50_000)
    try:
        wait_until(lambda: len(children(process)) >= 2)
        assert is_locked(tmp_path / "run")
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "run" / "cache" / "lengths-0.parquet").exists(), "killed too late"
    wait_until(lambda: not is_locked(tmp_path / "run"), 30)
