"""`make edge-vision`: which files, what they say about their origin, which are written again."""

from pathlib import Path

import pytest

from edge.policy import Policy
from edge.vision.__main__ import main
from edge.vision.encoder import device_files, open_encoder
from edge.vision.export import ensure_vision, read_origin
from rlaif.config.load import load_config
from tests.support import ROOT
from tests.support.tiny import save_tiny_model

NEEDS = "needs the packages of requirements/edge.txt; run `make edge-runtime`"
pytest.importorskip("onnx", reason=NEEDS)
pytest.importorskip("onnxruntime_qnn", reason=NEEDS)


def arguments(run: Path, policy: Path, *more: str) -> list[str]:
    changes = [f"policy.model={policy}", "data.train_prompts=8"]
    return ["--config", str(ROOT / "configs/demo.yaml"), "--run", str(run), "--set", *changes, *more]


def test_files_are_written_once_and_say_where_they_come_from(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert main(arguments(run, tiny_model)) == 0
    names = {file.name for file in (run / "edge").glob("vision*")}
    assert names == {
        "vision.onnx",
        "vision-static.onnx",
        "vision-host.safetensors",
        "vision-a16w8.onnx",
        "vision-fp16-snapdragon-8-gen-3.onnx",
        "vision-a16w8-snapdragon-8-gen-3.onnx",
    }
    output = capsys.readouterr().out
    assert "compiled for snapdragon-8-gen-3 (SM8650, HTP v75), which this machine runs in QNN's emulator only" in output
    assert output.count("  wrote ") == 6 and "  kept " not in output
    origin = read_origin(run / "edge" / "vision-a16w8-snapdragon-8-gen-3.onnx")
    assert origin["policy"] == tiny_model.name and origin["soc"] == "snapdragon-8-gen-3"
    assert set(origin) >= {"revision", "code_version", "onnxruntime-qnn"}

    static = run / "edge" / "vision-static.onnx"
    before = {file.name: file.stat().st_mtime_ns for file in (run / "edge").iterdir()}
    static.write_bytes(static.read_bytes()[:-1000])  # cut short: written again, and nothing else
    assert main(arguments(run, tiny_model)) == 0
    after = {file.name: file.stat().st_mtime_ns for file in (run / "edge").iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"vision-static.onnx"}


def test_a_file_of_another_policy_is_written_again(tiny_model: Path, tmp_path: Path) -> None:
    config = load_config(ROOT / "configs/demo.yaml", [f"policy.model={tiny_model}"])
    (file,) = ensure_vision(config, Policy.of(config, tmp_path), tmp_path, "cpu")
    revision = read_origin(file)["revision"]
    save_tiny_model(tmp_path / "policy", seed=1)
    policy = Policy.of(config, tmp_path)
    assert ensure_vision(config, policy, tmp_path, "openvino") == [file] == device_files(tmp_path / "edge", "cpu")
    assert read_origin(file)["revision"] == policy.revision != revision
    assert open_encoder(tmp_path / "edge", "cpu").revision == policy.revision
    assert open_encoder(tmp_path / "edge", "openvino").revision == policy.revision
    assert [path.name for path in (tmp_path / "edge").glob("vision*")] == ["vision.onnx"]


def test_an_unknown_soc_is_one_line(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(tmp_path / "run", tiny_model), "--soc", "snapdragon-9"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown SoC 'snapdragon-9'; known are snapdragon-8-gen-2, ")
    assert error.endswith("choose one with SOC=\n") and not (tmp_path / "run").exists()
