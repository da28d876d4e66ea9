"""Which commands a pipeline starts: each stage on one process, DPO as the pipeline itself was told to."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlaif.config import Config
from rlaif.errors import RlaifError
from rlaif.launch import Launching
from rlaif.pipelines import ablations, rounds
from rlaif.pipelines.stages import STAGES, run_stages
from tests.support import ROOT

ON_EIGHT = ["--processes", "8", "--sharding", "fsdp2", "--launch", ""]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are started; the one of evaluation fails."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 3 if "evaluation" in command else 0)

    monkeypatch.setattr("rlaif.pipelines.stages.subprocess.run", run)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    return commands


def config() -> Config:
    return Config.model_validate({"policy": {"model": "a"}, "labeler": {"model": "b"}})


@pytest.mark.parametrize(
    ("launching", "dpo"),
    [
        (None, [sys.executable, "-m", "dpo"]),
        (Launching(), [sys.executable, "-m", "dpo"]),
        (Launching("8", "fsdp2"), [sys.executable, "-m", "rlaif.launch", *ON_EIGHT, "dpo"]),
        (Launching(launch="A=1 srun 'my python' -m"), ["env", "A=1", "srun", "my python", "-m", "dpo"]),
    ],
)
def test_dpo_alone_is_started_on_several_processes(
    launching: Launching | None, dpo: list[str], started: list[list[str]], tmp_path: Path
) -> None:
    with pytest.raises(RlaifError, match=r"`-m evaluation --config .* failed with exit status 3; fix the error above"):
        run_stages(STAGES, config(), tmp_path / "run", launching)
    stage = ["--config", str(tmp_path / "run" / "config.yaml"), "--run", str(tmp_path / "run")]
    one = [[sys.executable, "-m", name, *stage] for name in ("generation", "feedback", "evaluation")]
    assert started == [*one[:2], [*dpo, *stage], one[2]]


def test_rounds_within_ablations_get_the_same_processes(started: list[list[str]], tmp_path: Path) -> None:
    file = tmp_path / "ablations.yaml"
    base = str(ROOT / "configs" / "rounds.yaml")
    file.write_text(yaml.safe_dump({"config": base, "variants": {"four": {"rounds": True}, "one": {}}}))
    assert ablations.main(["--config", str(file), "--run", str(tmp_path / "run"), *ON_EIGHT]) == 2
    assert started[0][2] == "rlaif.pipelines.rounds" and started[0][-6:] == ON_EIGHT
    (dpo,) = (command for command in started if "dpo" in command)
    assert dpo[2:10] == ["rlaif.launch", *ON_EIGHT, "dpo"]

    started.clear()
    assert rounds.main(started_rounds := ["--config", base, "--run", str(tmp_path / "rounds"), *ON_EIGHT]) == 2
    assert [command[2] for command in started] == ["generation", "feedback", "rlaif.launch", "evaluation"]
    assert rounds.main(started_rounds[:4]) == 2 and started[-2][1:3] == ["-m", "dpo"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--processes", "9"], "error: PROCESSES is 9, but this machine has 8 GPUs, one a process; set PROCESSES=8"),
        (["--processes", "8", "--launch", "env"], "error: LAUNCH and PROCESSES are both set"),
        (["--sharding", "fsdp2"], "error: SHARDING is set without PROCESSES"),
    ],
)
@pytest.mark.parametrize("pipeline", [rounds, ablations])
def test_what_dpo_would_refuse_is_refused_before_the_first_stage(
    pipeline: Any,
    options: list[str],
    message: str,
    started: list[list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = pipeline.__name__.rpartition(".")[2]
    command = ["--config", str(ROOT / "configs" / f"{name}.yaml"), "--run", str(tmp_path / "run")]
    assert pipeline.main([*command, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1
    assert not started and not (tmp_path / "run").exists()
