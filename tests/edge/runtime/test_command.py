"""The command: what is up to date is kept, and a build that does not work never replaces one that does."""

import platform
from pathlib import Path

import pytest

from edge.runtime.__main__ import main
from edge.runtime.build import Toolchain
from edge.runtime.installed import LIBRARIES, PROGRAM, Installed, read_installed, runtime_folder, write_installed
from edge.runtime.probes import Probe
from edge.runtime.targets import MACHINES, Target
from rlaif.errors import ModelError

BASE = MACHINES[platform.machine()][:1]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine that executes the first feature, and a compiler that writes empty files; returns what was compiled."""
    compiled: list[str] = []

    def build(target: Target, toolchain: Toolchain, folder: Path) -> Installed:
        compiled.append(target.name)
        folder.mkdir(parents=True)
        for name in (*LIBRARIES, PROGRAM):
            (folder / name).touch()
        found = Installed(target.name, target.machine, target.features, "1.2.3", toolchain.description, 1.0)
        write_installed(found, folder)
        return found

    monkeypatch.setattr("edge.runtime.installed.EDGE", tmp_path)
    monkeypatch.setattr("edge.runtime.build.package_version", lambda: "1.2.3")
    monkeypatch.setattr("edge.runtime.build.find_toolchain", lambda machine: Toolchain("cc", "echo", ()))
    monkeypatch.setattr("edge.runtime.probes.run_probes", lambda *given: [Probe(BASE[0], True, "executed")])
    monkeypatch.setattr("edge.runtime.build.build", build)
    monkeypatch.setattr("edge.runtime.trial.try_build", lambda *given: None)
    monkeypatch.setattr("edge.runtime.__main__.compare", lambda *given: None)
    return compiled


def test_a_build_is_made_once(machine: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main([]) == 0
    assert machine == ["host"]
    found = read_installed("host")
    assert found is not None and found.features == BASE
    assert capsys.readouterr().out.endswith(f"edge-runtime: {runtime_folder('host')} is up to date\n")


def test_another_compiler_makes_it_again(machine: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    main([])
    monkeypatch.setattr("edge.runtime.build.find_toolchain", lambda machine: Toolchain("cc", "true", ()))
    main([])
    assert machine == ["host", "host"]


def test_a_build_that_does_not_work_replaces_nothing(
    machine: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*given: object) -> None:
        raise ModelError("the new build host does not work")

    main([])
    before = read_installed("host")
    monkeypatch.setattr("edge.runtime.build.find_toolchain", lambda machine: Toolchain("cc", "true", ()))
    monkeypatch.setattr("edge.runtime.trial.try_build", fail)
    assert main([]) == 2
    assert capsys.readouterr().err == "error: the new build host does not work\n"
    assert machine == ["host", "host"]
    assert read_installed("host") == before is not None


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX2 is of x86")
def test_what_this_machine_does_not_execute_is_compiled_and_not_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*given: object) -> None:
        raise AssertionError("tried")

    monkeypatch.setattr("edge.runtime.trial.try_build", fail)
    assert main(["--target", "avx2"]) == 0
    assert "edge-runtime: avx2 was not tried: this machine does not execute AVX2\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "fast"], "error: TARGET=fast is not a target; expected one of host, portable, avx2, avx512, "),
        (["--threads", "0"], "error: --threads=0; expected at least 1; leave it out for 1"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(message)
