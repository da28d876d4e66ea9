"""Each stage is killed (SIGKILL) at twenty random moments and run again: its tables equal those of an undisturbed run,
and results that were on disk are not computed again.

A moment is a request or a change on disk (see tests.support.kills.stages); in training, any time. Each stage runs in
its own process, forked from one that has imported everything.
"""

import json
import multiprocessing
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import evaluation.labeled_answers
import feedback.stage
import generation.rewrite
import generation.sampling
from tests.support import EMBEDDED_PROMPTS
from tests.support.kills.stages import run_until
from tests.support.kills.training import align, prepare
from tests.support.photographs import encoded, photo

pytestmark = pytest.mark.slow


KILLS = 20
OUTPUTS = {
    "generation": ["prompts", "responses"],
    "feedback": ["claims", "scores", "pairs"],
    "divided": ["splits", "claims", "scores", "pairs"],  # feedback with a separate splitter
    "evaluate": ["evaluations", "short_answers", "labeled_answers"],
    "rewrite": ["rewrites"],
}
ANSWERS = {
    "generation": "responses",
    "feedback": "scores",
    "divided": "splits",
    "evaluate": "evaluations",
    "rewrite": "rewrites",
}


@pytest.fixture(scope="module")
def forks() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "tests.support.kills.stages",
            "tests.support.kills.training",
            "scenes.world",
            "model.images",
            "dpo.trainer",
            "transformers.processing_utils",  # with what it imports late
            "mistral_common.protocol.instruct.request",
            "requests",
            "cv2",
        ]
    )
    return context


def start(forks: ForkServerContext, stage: str, settings: dict[str, Any], path: Path, moment: int | None) -> int | None:
    """Run a stage. Returns its number of moments; None if it was killed."""
    receiver, sender = forks.Pipe(duplex=False)
    process: ForkServerProcess = forks.Process(target=_send, args=(sender, stage, settings, path, moment))
    process.start()
    sender.close()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL), f"{stage} ended with {process.exitcode}"
    return receiver.recv() if process.exitcode == 0 else None


def _send(sender: Any, stage: str, settings: dict[str, Any], path: Path, moment: int | None) -> None:
    feedback.stage.PROMPTS_PER_CHUNK = generation.sampling.PROMPTS_PER_CHUNK = 3  # many parts
    evaluation.labeled_answers.PROMPTS_PER_CHUNK = 3
    sender.send(run_until(stage, settings, path, moment))


def rows_of(path: Path, stage: str) -> dict[str, list[Any]]:
    tables = {name: pq.read_table(path / f"{name}.parquet").to_pylist() for name in OUTPUTS[stage]}
    dropped = pq.read_table(path / "dropped.parquet").to_pylist()
    return {**tables, "dropped": sorted(dropped, key=lambda row: tuple(row.values()))}


def requests(path: Path) -> list[str]:
    file = path.with_suffix(".requests")
    return file.read_text().splitlines() if file.is_file() else []


@pytest.fixture(scope="module")
def settings(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    import pyarrow as pa

    folder = tmp_path_factory.mktemp("captions")
    captions = [f"a {size} {color} circle" for size in ("small", "large") for color in ("red", "blue", "green")]
    image = {"bytes": encoded(photo(20, 20), "PNG"), "path": None}
    pq.write_table(pa.table({"image": [image] * 7, "caption": [*captions, ""]}), folder / "raw.parquet")
    model = {"model": str(tiny_model)}
    round_ = {
        "policy": model,
        "labeler": model,
        "data": {"train_prompts": 10, "test_prompts": 5},
        "generation": {"num_responses": 4, "temperature": 1.0},
        "feedback": {"prompts": EMBEDDED_PROMPTS},
        "evaluation": {"labeler": True},
    }
    captions_run = {"rewriter": model, "captions": {"path": str(folder / "raw.parquet")}}
    return {**dict.fromkeys(OUTPUTS, round_), "divided": {**round_, "splitter": model}, "rewrite": captions_run}


@pytest.fixture(scope="module")
def before(
    forks: ForkServerContext, settings: dict[str, Any], tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A run folder for each stage, as the stage before leaves it."""
    folders = {}
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    for stage in ("generation", "feedback", "evaluate"):
        if stage == "evaluate":
            shutil.copytree(tiny_model, path / "policy")
        folders[stage] = path.with_name(f"before-{stage}")
        if path.exists():
            shutil.copytree(path, folders[stage])
        start(forks, stage, settings[stage], path, None)
    return {**folders, "divided": folders["feedback"], "rewrite": path.with_name("before-rewrite")}


@pytest.mark.parametrize("stage", OUTPUTS)
def test_twenty_kills(
    stage: str, forks: ForkServerContext, settings: dict[str, Any], before: dict[str, Path], tmp_path: Path
) -> None:
    def fresh(name: str) -> Path:
        path = tmp_path / name / "run"
        path.parent.mkdir()
        if before[stage].exists():
            shutil.copytree(before[stage], path)
        return path

    undisturbed = fresh("undisturbed")
    moments = start(forks, stage, settings[stage], undisturbed, None)
    assert moments is not None and moments > 2 * KILLS, moments
    expected, questions = rows_of(undisturbed, stage), len(requests(undisturbed))
    assert all(expected[name] for name in OUTPUTS[stage])
    for moment in random.Random(stage).sample(range(1, moments), KILLS):
        path = fresh(f"killed-{moment}")
        assert start(forks, stage, settings[stage], path, moment) is None
        on_disk, answered = rows_on_disk(path, ANSWERS[stage]), len(requests(path))
        assert start(forks, stage, settings[stage], path, None) is not None
        assert rows_of(path, stage) == expected, f"killed at moment {moment} of {moments}"
        again = len(requests(path)) - answered
        if stage == "generation":  # one request, four rows
            assert again == questions - on_disk // 4
        else:
            assert again < questions or on_disk == 0, f"killed at moment {moment}: every request was repeated"


def rows_on_disk(path: Path, table: str) -> int:
    if (path / f"{table}.parquet").is_file():
        return int(pq.read_metadata(path / f"{table}.parquet").num_rows)
    manifest = path / f"{table}.parts" / "manifest.json"
    parts = json.loads(manifest.read_text()) if manifest.is_file() else {}
    return sum(pq.read_metadata(manifest.with_name(name)).num_rows for name in parts)


def test_repeated_kills(
    forks: ForkServerContext, settings: dict[str, Any], before: dict[str, Path], tmp_path: Path
) -> None:
    """The stage makes progress although every attempt is killed early."""
    undisturbed, path = tmp_path / "a" / "run", tmp_path / "b" / "run"
    for folder in (undisturbed, path):
        folder.parent.mkdir()
        shutil.copytree(before["feedback"], folder)
    moments = start(forks, "feedback", settings["feedback"], undisturbed, None)
    assert moments is not None
    rng, attempts = random.Random(0), 0
    while start(forks, "feedback", settings["feedback"], path, rng.randint(moments // 4, moments // 2)) is None:
        attempts += 1
        assert attempts < KILLS
    assert attempts > 1 and rows_of(path, "feedback") == rows_of(undisturbed, "feedback")


def test_training_is_killed_twenty_times(forks: ForkServerContext, tiny_model: Path, tmp_path: Path) -> None:
    """Twenty kills in all; each training that finishes before its kill must equal the undisturbed one."""

    def run(path: Path, seconds: float | None, target: Callable[[Path, Path], None] = align) -> bool:
        process: ForkServerProcess = forks.Process(target=target, args=(path, tiny_model))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            return False
        assert process.exitcode == 0
        return True

    undisturbed = tmp_path / "undisturbed"
    run(undisturbed, None, prepare)
    start_time = time.monotonic()
    assert run(undisturbed, None)
    whole = time.monotonic() - start_time
    expected = load_file(undisturbed / "policy" / "model.safetensors")
    losses = [entry["loss"] for entry in json.loads((undisturbed / "dpo" / "log.json").read_text()) if "loss" in entry]
    rng, kills, finished = random.Random(0), 0, 0
    while kills < KILLS or not finished:
        path = tmp_path / f"killed-{finished}"
        if not path.exists():
            run(path, None, prepare)
        if not run(path, rng.uniform(0.3, 1.0) * whole):
            kills += 1
            assert kills < 3 * KILLS, "no training finished"
            continue
        finished += 1
        aligned = load_file(path / "policy" / "model.safetensors")
        for name, tensor in expected.items():
            torch.testing.assert_close(aligned[name], tensor, rtol=0, atol=1e-6)
        log = json.loads((path / "dpo" / "log.json").read_text())
        assert [entry["loss"] for entry in log if "loss" in entry] == pytest.approx(losses, abs=1e-5)
