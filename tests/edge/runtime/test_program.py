"""The program's input file, its errors, and what happens when it dies."""

import struct
from pathlib import Path

import numpy as np
import pytest

from edge.runtime.installed import PROGRAM
from edge.runtime.program import ROW, Answer, answer_with, describe_end, quantize, quantize_with, write_prompt
from rlaif.errors import ConfigError, ModelError


def write_program(folder: Path, script: str) -> Path:
    """A double of the compiled program."""
    folder.mkdir(exist_ok=True)
    (folder / PROGRAM).write_text(f"#!/bin/sh\n{script}\n")
    (folder / PROGRAM).chmod(0o755)
    return folder


def test_a_prompt_file_is_sizes_ids_rows(tmp_path: Path) -> None:
    write_prompt(tmp_path / "prompt", [7, ROW, ROW, 9], np.array([[1, 2, 3], [4, 5, 6]]))
    expected = struct.pack("<7i6f", 4, 3, 2, 7, -1, -1, 9, 1, 2, 3, 4, 5, 6)
    assert (tmp_path / "prompt").read_bytes() == expected
    write_prompt(tmp_path / "text", [7, 9])
    assert (tmp_path / "text").read_bytes() == struct.pack("<5i", 2, 0, 0, 7, 9)


def test_rows_must_fit_the_ids(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="a row for each ROW"):
        write_prompt(tmp_path / "prompt", [7, 9], np.zeros((1, 3)))


def test_an_answer_is_read(tmp_path: Path) -> None:
    line = '{"ids": [4, 5], "prompt_tokens": 3, "prompt_seconds": 0.5, "seconds": 0.25}'
    folder = write_program(tmp_path / "build", f"test $1 = answer && test $4 = 2 && echo '{line}'")
    assert answer_with(folder, tmp_path / "m", tmp_path / "p", 2, 1) == Answer([4, 5], 3, 0.5, 0.25)


def test_an_unknown_quantization_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^QUANT=Q3 is not a quantization; expected one of f16, Q4_0, .*; use Q4_K_M"
    ):
        quantize(tmp_path / "a", tmp_path / "b", "Q3")


def test_a_refused_file_leaves_nothing(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "build", "echo half > $3; echo 'error: cut short' >&2; exit 2")
    message = r"could not write .*a.gguf as Q8_0: cut short; expected a whole GGUF file in f16 or f32; write it again"
    with pytest.raises(ModelError, match=message):
        quantize_with(folder, tmp_path / "a.gguf", tmp_path / "b.gguf", "Q8_0")
    assert not (tmp_path / "b.gguf").exists()


def test_a_build_that_dies_is_named_by_its_signal(tmp_path: Path) -> None:
    folder = write_program(tmp_path / "build", "kill -ILL $$")
    with pytest.raises(ModelError, match=r"^it was ended by SIGILL$"):
        answer_with(folder, tmp_path / "m", tmp_path / "p", 2, 1)
    assert describe_end(128 + 11, []) == "it was ended by SIGSEGV"
    assert describe_end(3, []) == "it ended with status 3"
    assert describe_end(2, ["one", "two", "three"]) == "two: three"
