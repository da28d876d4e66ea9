"""How a stage is started on several processes: the command line, and what is refused before anything starts."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import yaml
from accelerate.commands.launch import launch_command_parser
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

import rlaif.launch
from rlaif import processes
from rlaif.command import report_error
from rlaif.errors import RunMismatchError
from rlaif.launch import launcher_arguments, main, process_count, report, sharding_file
from rlaif.processes import check_checkpoint, loader_workers, on_first_process, record_processes, use_of_processes
from rlaif.trainer import parse_trainer_arguments
from tests.support import ROOT
from tests.support.project.make import dry_run

STAGE = ["dpo", "--config", "a.yaml", "--run", "runs/a", "--set", "seed=1"]


def test_make_starts_one_process_several_or_a_launcher() -> None:
    assert ".venv/bin/python -m dpo --config 'configs/demo.yaml'" in dry_run("dpo")
    started = "-m rlaif.launch --processes '8' --sharding 'zero2' --launch '' {} --config"
    for target in ("dpo", "pretrain", "sft", "rewriter", "language-model", "encoder", "embedded-models"):
        module = {"dpo": "dpo", "encoder": "training.encoder"}.get(target, "training")
        assert started.format(module) in (shown := dry_run(target, "PROCESSES=8", "SHARDING=zero2"))
        assert "python -m training" not in shown, "a training on one process"
    assert "torchrun -m -- dpo --config" in dry_run("dpo", "LAUNCH=torchrun -m --")
    assert "torchrun -m -- training --config" in dry_run("pretrain", "LAUNCH=torchrun -m --")
    for target in ("rounds", "ablations"):
        shown = dry_run(target, "PROCESSES=8", "SHARDING=zero2")
        assert f"-m rlaif.pipelines.{target} --config" in shown
        assert shown.strip().endswith("--processes '8' --sharding 'zero2' --launch ''")


def test_the_command_line_is_one_of_accelerate() -> None:
    arguments = launcher_arguments(Path("configs/accelerate/fsdp2.yaml"), 8, 64, STAGE)
    parsed = launch_command_parser().parse_args(arguments)
    assert (parsed.num_processes, parsed.num_cpu_threads_per_process, parsed.module) == (8, 8, True)
    assert [parsed.training_script, *parsed.training_script_args] == STAGE
    assert launcher_arguments(Path("a.yaml"), 8, 2, STAGE).count("1") == 2  # machines, threads


@pytest.mark.parametrize(
    ("arguments", "gpus", "message"),
    [
        (["--processes", "9"], 8, "PROCESSES is 9, but this machine has 8 GPUs, one a process; set PROCESSES=8, or LA"),
        (["--processes", "2"], 1, "PROCESSES is 2, but this machine has 1 GPU, one a process; set PROCESSES=1"),
        (["--processes", "two"], 0, "PROCESSES is 'two'; expected a number from 1 on"),
        (["--processes", "0"], 0, "PROCESSES is '0'; expected a number from 1 on"),
        (["--processes", "-2"], 8, "PROCESSES is '-2'; expected a number from 1 on"),
        (["--sharding", "fsdp2"], 8, "SHARDING is set without PROCESSES; .*: set PROCESSES too"),
        (["--processes", "1", "--sharding", "fsdp2"], 8, "SHARDING is fsdp2 with one process; set PROCESSES to 2"),
        (["--processes", "2", "--launch", "torchrun -m"], 8, "LAUNCH and PROCESSES are both set; .*: remove one"),
        (["--sharding", "ddp", "--launch", "torchrun -m"], 8, "LAUNCH and SHARDING are both set; .*: remove one"),
        (
            ["--launch", "srun-nowhere python -m"],
            8,
            "LAUNCH starts 'srun-nowhere', which is not a program here; set LAU",
        ),
        (["--launch", "env 'X"], 8, 'LAUNCH is "env \'X": No closing quotation; expected a command line'),
        (["--processes", "2", "--sharding", "fsdp"], 8, "SHARDING is 'fsdp'; expected ddp, fsdp2, zero2, zero3, or"),
        (["--processes", "2", "--sharding", "pyproject.toml"], 8, "pyproject.toml is not a configuration of accelera"),
        (
            ["--processes", "2", "--sharding", "zero2"],
            8,
            ".*zero2.yaml needs DeepSpeed, which is not installed; install it: .v",
        ),
    ],
)
def test_bad_input_is_an_error_of_one_line(
    arguments: list[str], gpus: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([*arguments, *STAGE]) == 2
    error = capsys.readouterr().err
    assert re.search(f"^error: {message}", error) and error.count("\n") == 1, error


def test_one_process_is_started_without_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    class Replaced(Exception):
        pass

    def execv(file: str, command: list[str]) -> None:
        raise Replaced(command)

    monkeypatch.setattr(os, "execv", execv)
    with pytest.raises(Replaced) as replaced:
        main(["--processes", "1", *STAGE])
    assert replaced.value.args[0][1:] == ["-m", *STAGE]


def test_without_gpus_the_processes_share_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert process_count("4", gpus=0) == 4
    launched: list[str] = []

    def launch(arguments: list[str]) -> int:
        launched.extend(arguments)
        return 0

    monkeypatch.setattr(rlaif.launch, "launch", launch)
    assert main(["--processes", "2", *STAGE]) == 0
    assert launched[:2] == ["--config_file", "configs/accelerate/ddp.yaml"] and launched[-len(STAGE) :] == STAGE


def test_a_file_of_accelerate_is_a_sharding_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"distributed_type": "FSDP", "fsdp_config": {"fsdp_version": 2}}))
    assert sharding_file(str(file)) == file
    assert sharding_file("") == Path("configs/accelerate/ddp.yaml")


def all_locked(folder: Path) -> bool:
    return all(is_locked(folder / rank) for rank in ("0", "1"))


def none_locked(folder: Path) -> bool:
    return not any(is_locked(folder / rank) for rank in ("0", "1"))


def is_locked(file: Path) -> bool:
    """Whether a process holds the lock on a file, which may not exist."""
    if not file.exists():
        return False
    descriptor = os.open(file, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def until(condition: Callable[[Path], bool], folder: Path, seconds: float) -> bool:
    """Whether a condition becomes true within a time."""
    end = time.monotonic() + seconds
    while not condition(folder) and time.monotonic() < end:
        time.sleep(0.1)
    return condition(folder)


@pytest.mark.slow
def test_the_processes_end_with_their_launcher_however_it_ends(tmp_path: Path) -> None:
    """By an error, by the terminal's hang-up or by SIGKILL; under nohup a hang-up ends nothing."""
    file = tmp_path / "waiting.yaml"
    file.write_text("policy: {model: a}\nlabeler: {model: b}\n")
    launchers: dict[str, subprocess.Popen[bytes]] = {}
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        for name, prefix in (("plain", []), ("nohup", ["nohup"]), ("error", [])):
            command = [*prefix, sys.executable, "-m", "rlaif.launch", "--processes", "2", "tests.support.kills.waiting"]
            command += ["--config", str(file), "--run", str(tmp_path / name)]
            with (tmp_path / f"{name}.err").open("wb") as err:
                launchers[name] = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=err)
            if name != "error":  # its processes find no folder
                (tmp_path / name).mkdir()
        assert launchers["error"].wait(120) == 2 and (tmp_path / "error.err").read_text().count("error: ") == 1
        assert until(all_locked, tmp_path / "plain", 120) and until(all_locked, tmp_path / "nohup", 120)
        for name in ("plain", "nohup"):
            launchers[name].send_signal(signal.SIGHUP)
        assert launchers["plain"].wait(60) == 128 + signal.SIGHUP and none_locked(tmp_path / "plain")
        assert launchers["nohup"].poll() is None and all_locked(tmp_path / "nohup")
        launchers["nohup"].kill()
        assert until(none_locked, tmp_path / "nohup", 60)
    finally:
        signal.signal(signal.SIGHUP, before)
        for launcher in launchers.values():
            launcher.kill()
            launcher.wait()


def failure(rank: int, exitcode: int, error_file: Path) -> ProcessFailure:
    return ProcessFailure(local_rank=rank, pid=1, exitcode=exitcode, error_file=str(error_file))


def test_an_error_is_printed_once_by_the_first_process_or_by_the_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rlaif.command.SECONDS_FOR_THE_FIRST", 0)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.setenv("RANK", "0")
    report_error("no such table")
    assert capsys.readouterr().err == "error: no such table\n" and not (tmp_path / "error.json").exists()
    monkeypatch.setenv("RANK", "1")
    report_error("no such row")
    assert not capsys.readouterr().err

    alone = failure(1, 2, tmp_path / "error.json")
    waiting = failure(2, 2, tmp_path / "none.json")  # ended because of the first
    assert report([alone, waiting]) == 2
    assert capsys.readouterr().err == "error: no such row\n"
    assert report([failure(0, 2, tmp_path / "none.json"), alone]) == 2
    assert not capsys.readouterr().err, "the first process has printed its own"


def test_a_killed_process_is_named_and_a_defect_keeps_its_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report([failure(1, -signal.SIGKILL, tmp_path / "none.json")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: process 1 was ended by SIGKILL and the others were stopped; ")
    assert message.endswith("run the same command again, which resumes\n") and message.count("\n") == 1
    assert report([failure(1, 1, tmp_path / "none.json")]) == 1
    assert not capsys.readouterr().err


def test_images_are_cut_by_workers_beside_a_gpu_that_has_cores_and_shared_memory_for_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(processes, "LEAST_SHARED_MEMORY", 1)
    assert loader_workers() == 0, "without a GPU they would take the cores that train"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    counts = []
    for cores, count in ((16, "1"), (16, "8"), (3, "1"), (1, "1")):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process, cores=cores: set(range(cores)))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", count)
        counts.append(loader_workers())
    assert counts == [4, 1, 2, 0]
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    monkeypatch.setattr(processes, "LEAST_SHARED_MEMORY", 2**60)
    assert loader_workers() == 0, "a container with 64 MB"


def test_an_error_of_the_first_process_ends_the_others_and_its_result_is_that_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[Any] = []

    def broadcast(outcome: list[Any]) -> None:
        if outcome == [None]:  # of another process
            outcome[0] = sent[-1]
        sent.append(outcome[0])

    def failing() -> int:
        raise error

    monkeypatch.setattr(processes, "broadcast_object_list", broadcast)
    monkeypatch.setattr(processes, "SECONDS_FOR_THE_FIRST", 0)
    first, second = (cast(Any, SimpleNamespace(process_index=index)) for index in range(2))
    assert on_first_process(first, lambda: 7) == 7 and on_first_process(second, failing) == 7
    for error in (RunMismatchError("another run"), OSError("disk is full")):
        with pytest.raises(type(error), match=str(error)):
            on_first_process(first, failing)
        with pytest.raises(SystemExit, match="2"):
            on_first_process(second, failing)


def arguments_of(folder: Path) -> Any:
    from transformers import TrainingArguments

    return parse_trainer_arguments(TrainingArguments, "trainer", {}, {"output_dir": str(folder)}, {})


def test_a_checkpoint_of_other_processes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = arguments_of(tmp_path)
    folder = tmp_path / "dpo"
    check_checkpoint(folder, "dpo/checkpoint-2", args)  # of a version that did not record them
    monkeypatch.setattr(type(args), "world_size", 4)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    record_processes(folder, args)
    check_checkpoint(folder, "dpo/checkpoint-2", args)
    monkeypatch.setattr(type(args), "world_size", 1)
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    check_checkpoint(folder, None, args)  # nothing to resume
    message = "dpo/checkpoint-2 was written by 4 processes with fsdp2, and this start has 1 process; resume with "
    with pytest.raises(RunMismatchError, match=f"{message}PROCESSES=4 SHARDING=fsdp2, or use another RUN=, or delete"):
        check_checkpoint(folder, "dpo/checkpoint-2", args)


def test_one_process_uses_one_of_several_gpus_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import TrainingArguments

    original = TrainingArguments.__post_init__

    def sees_two_gpus(self: Any) -> None:
        original(self)
        self._n_gpu = 2

    monkeypatch.setattr(TrainingArguments, "__post_init__", sees_two_gpus)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    args = arguments_of(tmp_path)
    assert args.n_gpu == 1, "with more, Trainer wraps the model in nn.DataParallel"
    assert "uses one of 2 GPUs; to use all, add PROCESSES=2 to the command" in str(use_of_processes(args, "pairs"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert use_of_processes(args, "pairs") is None
