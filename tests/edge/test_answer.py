"""`make edge-answer`: the policy's answer, one part after the other or both at once, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.comparisons.edge_memory import measure, save_middle_model, table
from edge.answer import Answer, LanguagePart, VisionPart, answer_picture, main, summary
from edge.gguf.export import ensure_language
from edge.gguf.names import find_language
from edge.language import Generated
from edge.policy import Policy
from edge.settings import read_settings
from edge.vision.qnn import DEFAULT_SOC
from rlaif.errors import InputError
from tests.support import ROOT
from tests.support.edge.original import MAX_TOKENS, OriginalModel, demo_config, scenes

CONFIG = str(ROOT / "configs" / "demo.yaml")


def parts_of(run: Path, quant: str, max_tokens: int) -> tuple[VisionPart, LanguagePart]:
    policy = Policy.of(demo_config(), run)
    language = LanguagePart(find_language(run, quant), read_settings(run / "edge"), max_tokens)
    return VisionPart(policy, run, "cpu", DEFAULT_SOC), language


@pytest.mark.slow
def test_the_command_prints_the_answer_of_the_policy_and_the_memory(
    edge_run: Path, original: OriginalModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scene,) = scenes(1)
    (tmp_path / "scene.png").write_bytes(scene.png)
    expected = original.answer(scene.png, scene.instruction)
    arguments = ["--config", CONFIG, "--run", str(edge_run), "--image", str(tmp_path / "scene.png")]
    assert main([*arguments, "--text", scene.instruction, "--quant", "f16"]) == 0
    said, answer, _, *rest = capsys.readouterr().out.splitlines()
    assert said == f"{edge_run} has no aligned policy; takes the one of the configuration, assets/policy"
    assert answer == expected.text
    assert [line.split()[0] for line in rest[:4]] == ["prompt", "vision", "language", "at"]
    assert rest[4].startswith(f"{len(expected.features)} slices encoded in ")
    assert rest[5].startswith(f"{len(expected.prompt.ids)} tokens of the prompt read in ")


@pytest.mark.slow
def test_both_parts_at_once_give_the_same_answer(edge_run: Path, original: OriginalModel, tmp_path: Path) -> None:
    (scene,) = scenes(1)
    (tmp_path / "scene.png").write_bytes(scene.png)
    expected = original.answer(scene.png, scene.instruction)
    parts = parts_of(edge_run, "f16", MAX_TOKENS)
    joint = answer_picture(*parts, tmp_path / "scene.png", scene.instruction, joint=True)
    assert joint.generated.ids == expected.ids
    assert joint.encoded is not None
    assert np.abs(joint.encoded.features - expected.features).max() < 1e-3
    assert list(joint.peaks) == ["prompt", "vision and language"]


@pytest.mark.slow
def test_a_text_alone_needs_no_vision_part(edge_run: Path) -> None:
    answer = answer_picture(*parts_of(edge_run, "Q4_K_M", 8), None, "Is there a car?", joint=True)
    assert answer.encoded is None
    assert list(answer.peaks) == ["prompt", "language"]


@pytest.mark.slow
def test_exports_of_another_policy_do_not_answer(
    edge_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy was trained further: first everything is old, then the vision part alone."""
    shutil.copytree(ROOT / "assets" / "labeler", tmp_path / "policy")
    (tmp_path / "edge").mkdir()
    for file in (edge_run / "edge").glob("[lmv]*"):
        (tmp_path / "edge" / file.name).symlink_to(file)
    picture = tmp_path / "scene.png"
    picture.write_bytes(scenes(1)[0].png)
    arguments = ["--config", CONFIG, "--run", str(tmp_path), "--image", str(picture), "--text", "x", "--quant", "f16"]
    assert main(arguments) == 2
    assert f"run `make export-edge RUN={tmp_path} QUANT=f16`" in capsys.readouterr().err
    (tmp_path / "edge" / "language-f16.gguf").unlink()
    ensure_language(Policy.of(demo_config(), tmp_path), tmp_path, "f16")
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "vision.onnx was written from another policy (" in line
    assert line.endswith(f"run `make edge-vision RUN={tmp_path}`")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--text", " "], "the text is empty, expected a question or an instruction; give one with TEXT="),
        (["--text", "x", "--image", "no.png"], "no.png is not a file, expected a picture such as a JPEG or PNG file;"),
        (["--text", "x", "--quant", "Q5"], "QUANT is 'Q5', expected one of f16, Q8_0, "),
        (["--text", "x", "--quant", "Q8_0"], "language-Q8_0.gguf is missing, "),
        (["--text", "x", "--device", "gpu"], "unknown device 'gpu'; known are qnn, cpu, "),
    ],
)
def test_wrong_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["--config", CONFIG, "--run", str(tmp_path), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.slow
def test_in_sequence_the_peak_is_that_of_the_larger_part(llama_cpp: Any, tmp_path: Path) -> None:
    save_middle_model(tmp_path / "model")
    peaks = measure(tmp_path / "model", tmp_path / "run", "f16")
    smaller = min(peaks.vision_weights, peaks.language_weights)
    assert smaller > 50_000_000
    assert peaks.vision > peaks.vision_weights and peaks.language > peaks.language_weights  # each holds its weights
    assert peaks.sequence < peaks.joint - 0.8 * smaller
    row = table({"f16": peaks}).splitlines()[-1]
    assert row.startswith("| f16 | ") and row.endswith(f" | {peaks.joint / 1e6:,.0f} MB |")


def test_a_missing_export_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no language model; run `make export-edge RUN=.* QUANT=Q4_K_M`"):
        find_language(tmp_path, "Q4_K_M")
    (tmp_path / "edge").mkdir()
    for quant in ("f16", "Q8_0"):
        (tmp_path / "edge" / f"language-{quant}.gguf").touch()
    with pytest.raises(InputError, match="has f16, Q8_0; run `make export-edge"):
        find_language(tmp_path, "Q4_K_M")
    assert find_language(tmp_path, "f16").name == "language-f16.gguf"


def test_the_summary_tells_the_largest_part_and_a_cut_answer() -> None:
    generated = Generated([1, 2, 3], "length", None, prompt_tokens=40, prompt_seconds=2.0, seconds=0.5)
    lines = summary(Answer("x", generated, None, {"prompt": 9_000_000, "language": 21_400_000})).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["prompt", "9", "MB", "at", "most"],
        ["language", "21", "MB", "at", "most"],
        ["at", "a", "time", "21", "MB", "at", "most"],
    ]
    assert lines[3] == "no picture was given: IMAGE=FILE gives one"
    assert lines[4] == "40 tokens of the prompt read in 2.00 s, 3 written in 0.50 s (6.0 a second)"
    assert lines[5] == "the answer was cut: raise evaluation.max_tokens"
