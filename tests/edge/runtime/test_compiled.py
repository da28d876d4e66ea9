"""The compiled llama.cpp: through the bindings, through the program, and on another machine in an emulator."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.runtime.build import find_toolchain
from edge.runtime.installed import PROGRAM, find_build, read_installed
from edge.runtime.library import load
from edge.runtime.program import answer_with, quantize, write_prompt
from edge.runtime.sample import SMALL, chain, write_sample
from edge.runtime.trial import try_build
from rlaif.errors import ModelError
from tests.support import ROOT

pytestmark = pytest.mark.usefixtures("llama_cpp")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sample") / "f16.gguf"
    write_sample(file, SMALL)
    return file


def test_the_bindings_are_those_of_the_build(llama_cpp: Any) -> None:
    assert load() is load("host") is llama_cpp
    assert "LLAMAFILE" in llama_cpp.llama_print_system_info().decode()
    assert Path(llama_cpp._base_path) == find_build("host").folder.resolve()
    with pytest.raises(AssertionError, match="host is loaded; load portable in another process"):
        load("portable")


def test_loading_needs_neither_torch_nor_the_rest_of_the_package() -> None:
    script = "import sys; from edge.runtime.library import load; load(); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "'llama_cpp.llama_cpp'" in loaded
    for name in ("torch", "numpy", "jinja2", "llama_cpp.llama"):
        assert f"'{name}'" not in loaded


def test_waiting_threads_sleep_unless_the_user_says_otherwise() -> None:
    script = "import os; from edge.runtime.library import load; load(); print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        environment = {**{name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}, **given}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{expected}\n"


def test_the_build_passes_its_trial() -> None:
    build = find_build("host")
    try_build(build.folder, build.target, threads=1)


def test_a_build_that_computes_wrongly_does_not(tmp_path: Path) -> None:
    """The real build, but for one token of the answer."""
    program = find_build("host").program.resolve()
    double = tmp_path / PROGRAM
    double.write_text(f"#!/bin/sh\n{program} \"$@\" | sed 's/80, 243/80, 244/'\n")
    double.chmod(0o755)
    message = (
        r"^the new build host does not work on f16 weights: it answered \[80, 244.*not \[80, 243.*TARGET=portable`$"
    )
    with pytest.raises(ModelError, match=message):
        try_build(tmp_path, "host", threads=1)


def test_a_file_that_is_cut_short_is_refused(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(sample.read_bytes()[:-4000])
    with pytest.raises(
        ModelError, match=r"could not write .*cut\.gguf as Q8_0: .*could not be quantized; expected a whole"
    ):
        quantize(tmp_path / "cut.gguf", tmp_path / "out.gguf", "Q8_0")
    assert not (tmp_path / "out.gguf").exists()


def test_quantizing_makes_the_file_smaller(sample: Path, tmp_path: Path) -> None:
    """Bits a weight: 16, 8.5, 6.5625, 4.5."""
    sizes = {"f16": sample.stat().st_size}
    for kind in ("Q8_0", "Q6_K", "Q4_0"):
        quantize(sample, tmp_path / kind, kind)
        sizes[kind] = (tmp_path / kind).stat().st_size
    assert sizes["f16"] > 1.8 * sizes["Q8_0"] and sizes["Q8_0"] > 1.2 * sizes["Q6_K"] > 1.2 * sizes["Q4_0"]


@pytest.mark.skipif(read_installed("aarch64") is None, reason="run `make edge-runtime TARGET=aarch64`")
@pytest.mark.skipif(platform.machine() == "aarch64", reason="this machine is one")
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="no emulator qemu-aarch64")
def test_the_build_for_phones_gives_the_same_tokens(sample: Path, tmp_path: Path) -> None:
    build, host = read_installed("aarch64"), find_build("host")
    assert build is not None and build.machine == "aarch64"
    runner = find_toolchain("aarch64").runner
    assert runner is not None
    quantize(sample, tmp_path / "model.gguf", "Q4_K_M")
    write_prompt(tmp_path / "prompt", [1, 2, 3])
    arguments = (tmp_path / "model.gguf", tmp_path / "prompt", 8, 1)
    ids = answer_with(build.folder, *arguments, runner).ids
    assert ids == answer_with(host.folder, *arguments).ids == chain(3, 8, SMALL)
