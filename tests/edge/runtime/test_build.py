"""How CMake is called, and what a machine without a compiler is told."""

import platform
from pathlib import Path

import pytest

from edge.runtime.build import NATIVE, Toolchain, configure_command, find_toolchain, is_of_this_project, run_logged
from edge.runtime.targets import Target
from rlaif.errors import ModelError


@pytest.fixture(autouse=True)
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with cmake and ninja, and no compiler but those of the test."""
    monkeypatch.setattr("edge.runtime.build._tool", lambda name: f"/bin/{name}")
    monkeypatch.setattr("edge.runtime.build.package_version", lambda: "1.2.3")
    monkeypatch.setenv("PATH", str(tmp_path))


def options(target: Target) -> list[str]:
    command = configure_command(target, Toolchain("gcc", "g++", ()), Path("/source"), Path("/tree"))
    assert command[:7] == ["/bin/cmake", "-G", "Ninja", "-S", str(NATIVE), "-B", "/tree"]
    return command[7:]


def test_a_target_of_this_machine_is_compiled_with_its_features() -> None:
    given = options(Target("portable", platform.machine(), ()))
    assert {"-DLLAMA_CPP=/source", "-DCMAKE_CXX_COMPILER=g++", "-DGGML_NATIVE=OFF"} <= set(given)
    assert not [option for option in given if "SYSTEM" in option or "OPENMP" in option]


def test_another_machine_is_compiled_for_across() -> None:
    machine = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    given = options(Target("other", machine, ()))
    expected = {"-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={machine}", "-DGGML_OPENMP=OFF"}
    assert expected <= set(given)


def test_a_machine_without_a_compiler_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^no compiler \S+ for \S+ on this machine; .*apt install g\+\+"):
        find_toolchain(platform.machine())
    other = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    with pytest.raises(ModelError, match=r"apt install g\+\+-aarch64-linux-gnu\), then run the same command again"):
        find_toolchain(other)


def test_the_compilers_first_error_is_shown(tmp_path: Path) -> None:
    script = "echo 'FAILED: c++ -Werror=implicit-int'; echo 'a.cpp:1:2: error: no such thing'; exit 1"
    with pytest.raises(
        ModelError, match=r"^llama.cpp could not be compiled: a\.cpp:1:2: error: no such thing; expected a"
    ):
        run_logged(["/bin/sh", "-c", script], tmp_path / "log.txt")
    assert (tmp_path / "log.txt").read_text().startswith("FAILED: ")


def test_a_tree_of_a_moved_project_is_not_used(tmp_path: Path) -> None:
    assert is_of_this_project(tmp_path / "none")
    assert not is_of_this_project(tmp_path)
    (tmp_path / "CMakeCache.txt").write_text(f"A=1\nCMAKE_HOME_DIRECTORY:INTERNAL={NATIVE}\n")
    assert is_of_this_project(tmp_path)
    (tmp_path / "CMakeCache.txt").write_text(f"CMAKE_HOME_DIRECTORY:INTERNAL={NATIVE}/elsewhere\n")
    assert not is_of_this_project(tmp_path)
