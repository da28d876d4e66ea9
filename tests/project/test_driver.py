"""Set-up looks at the driver before it installs the CUDA build: an old one is one line, and nothing is installed."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

OLD = "| NVIDIA-SMI 535.104.05   Driver Version: 535.104.05   CUDA Version: 12.2     |"
NEW = "| NVIDIA-SMI 580.65.06    Driver Version: 580.65.06    CUDA Version: 13.0     |"
BROKEN = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."


@pytest.mark.parametrize(
    ("printed", "status", "message"),
    [
        (NEW, 0, ""),
        (NEW.replace("13.0", "14.1"), 0, ""),
        (
            OLD,
            2,
            "error: the NVIDIA driver runs CUDA up to 12.2, but torch 2.13 is built for CUDA 13; install a driver of ",
        ),
        (BROKEN, 2, f"error: nvidia-smi does not say which CUDA the driver runs ({BROKEN}); repair the driver, or "),
    ],
)
def test_the_cuda_of_the_driver(printed: str, status: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text(f'#!/bin/sh\necho "{printed}"\n')
    (tmp_path / "nvidia-smi").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["make", "--no-print-directory", "-s", ".check-driver"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert done.stdout == "" and done.stderr.startswith(message) and bool(done.stderr) == bool(message)
    assert not message or "make setup BUILD=cpu" in done.stderr


def test_the_cuda_build_checks_the_driver_before_it_installs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^\.install-cuda: \.check-driver$", makefile, re.MULTILINE)
    version = re.search(r"^torch==(\d+\.\d+)", (ROOT / "requirements" / "cpu.txt").read_text(), re.MULTILINE)
    assert version is not None and f"torch {version[1]} is built for CUDA" in makefile
