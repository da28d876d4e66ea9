"""Worker processes of a training end with it, also if it is killed."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset, Image

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


@pytest.mark.slow
def test_workers_end_when_their_training_is_killed(tiny_model: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    noise_image((56, 42)).save(buffer, format="PNG")
    rows = [{"image": {"bytes": buffer.getvalue(), "path": None}, "caption": f"star {row}"} for row in range(8)]
    Dataset.from_list(rows).cast_column("image", Image()).to_parquet(tmp_path / "captions.parquet")
    config = {
        "stage": "finetune",
        "model": str(tiny_model),
        "data": [str(tmp_path / "captions.parquet")],
        "sequence_length": 192,
        "trainer": {
            "max_steps": 100_000,
            "save_strategy": "steps",
            "save_steps": 1,
            "save_total_limit": 1,
            "dataloader_num_workers": 2,
            "dataloader_persistent_workers": True,  # beyond an epoch, which is short here
        },
    }
    (tmp_path / "stage.yaml").write_text(json.dumps(config))
    command = [
        sys.executable,
        "-m",
        "training",
        "--config",
        str(tmp_path / "stage.yaml"),
        "--run",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: any((tmp_path / "run" / "training").glob("checkpoint-*/trainer_state.json")))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    finally:
        process.kill()
        process.wait()
    assert len(children) >= 2
    wait_until(lambda: not any(is_running(int(child)) for child in children), 30)  # they look every 5 seconds
