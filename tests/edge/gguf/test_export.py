"""The command: files of a run, written once, with their origin."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edge.gguf.__main__ import main
from edge.gguf.card import ollama_template
from edge.gguf.file import read_header
from edge.gguf.names import language_file, mmproj_file
from tests.support import ROOT
from tests.support.tiny import save_tiny_model

pytestmark = pytest.mark.slow


def write_config(folder: Path, policy: Path) -> Path:
    file = folder / "run.yaml"
    file.write_text(f"policy: {{model: {policy}}}\nlabeler: {{model: {policy}}}\n", encoding="utf-8")
    return file


def export(tmp_path: Path, quant: str, policy: Path) -> int:
    config = write_config(tmp_path, policy)
    (tmp_path / "run").mkdir(exist_ok=True)
    return main(["--config", str(config), "--run", str(tmp_path / "run"), "--quant", quant])


def times(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.gguf")}


def test_files_are_written_once_and_name_their_origin(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(tmp_path, "f16", tiny_model) == 0
    folder = tmp_path / "run" / "edge"
    assert sorted(file.name for file in folder.iterdir() if not file.name.startswith(".")) == [
        "Modelfile", "README.md", "language-f16.gguf", "mmproj-f16.gguf", "revision.json",
    ]  # fmt: skip
    output = capsys.readouterr().out
    assert "has no aligned policy; takes the one of the configuration" in output
    assert output.count("  wrote ") == 4 and "  kept " not in output
    for file in (language_file(tmp_path / "run", "f16"), mmproj_file(tmp_path / "run")):
        metadata = read_header(file).metadata
        assert metadata["rlaif.policy"] == tiny_model.name and len(metadata["rlaif.revision"]) == 16
        assert metadata["rlaif.embedding_width"] == 128 and metadata["rlaif.code_version"]
        assert "llama-cpp-python" in metadata["rlaif.llama_cpp"]
    written = times(folder)
    assert export(tmp_path, "f16", tiny_model) == 0
    assert times(folder) == written
    assert capsys.readouterr().out.count("  kept ") == 2


def test_another_policy_or_a_damaged_file_is_written_again(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(tmp_path, "f16", tiny_model) == 0
    file = language_file(tmp_path / "run", "f16")
    whole, first = file.read_bytes(), read_header(file).metadata["rlaif.revision"]
    file.write_bytes(whole[:-100])
    assert export(tmp_path, "f16", tiny_model) == 0
    assert file.read_bytes() == whole
    assert "language-f16.gguf is damaged or cut short" in capsys.readouterr().out
    shutil.copyfile(file, language_file(tmp_path / "run", "Q8_0"))
    save_tiny_model(tmp_path / "run" / "policy", seed=1)
    capsys.readouterr()
    assert export(tmp_path, "f16", tiny_model) == 0
    assert "language-Q8_0.gguf is of another policy; write it again with QUANT=Q8_0" in capsys.readouterr().out
    assert "Q8_0" not in (tmp_path / "run" / "edge" / "README.md").read_text()
    for name in (file, mmproj_file(tmp_path / "run")):
        assert read_header(name).metadata["rlaif.revision"] != first
    assert read_header(file).metadata["rlaif.policy"] == "run"


@pytest.mark.parametrize(
    ("quant", "line"),
    [
        ("Q4_K_L", "QUANT is 'Q4_K_L', expected one or more of f16, Q8_0, Q6_K, Q4_K_M, Q4_0; correct QUANT="),
        ("", "QUANT is empty, expected one or more of f16"),
    ],
)
def test_an_unknown_quantization_writes_nothing(
    quant: str, line: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(tmp_path, quant, tiny_model) == 2
    assert line in capsys.readouterr().err
    assert not list((tmp_path / "run").iterdir())


def test_another_model_is_refused(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    save_tiny_model(other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"version": "4.0"}))
    capsys.readouterr()
    assert export(tmp_path, "f16", other) == 2
    error = capsys.readouterr().err
    assert "is MiniCPM-V 4.0, expected MiniCPM-V 2.5 or 2.6" in error and error.count("\n") == 1


def test_the_modelfile_has_the_turns_and_the_end_of_the_model(tiny_model: Path, tmp_path: Path) -> None:
    assert export(tmp_path, "f16", tiny_model) == 0
    lines = (tmp_path / "run" / "edge" / "Modelfile").read_text()
    assert "FROM ./language-f16.gguf\nFROM ./mmproj-f16.gguf\n" in lines
    assert 'PARAMETER stop "<|eot_id|>"\nPARAMETER num_ctx 512\n' in lines
    assert 'TEMPLATE """<|begin_of_text|>{{ if .System }}<|start_header_id|>system' in lines


def test_the_turns_of_2_6() -> None:
    assert ollama_template("qwen2", "") == (
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}"
        "<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n{{ .Response }}<|im_end|>\n"
    )


def test_the_card_says_what_differs_and_what_was_measured(tiny_model: Path, tmp_path: Path) -> None:
    assert export(tmp_path, "f16", tiny_model) == 0
    folder = tmp_path / "run" / "edge"
    card = (folder / "README.md").read_text()
    assert "`llama-server -m language-f16.gguf --mmproj mmproj-f16.gguf" in card
    assert "| position of a patch in the vision encoder | counted row by row" in card
    assert "| width 128 | as it is | 256, padded with zeros" in card
    assert "where its area exceeds 56 x 56 |" in card and "Nothing yet: `make edge-check" in card
    row: dict[str, Any] = {
        "export": "f16", "pictures": 80, "same_answers": 79, "kl_mean": 6.6e-8, "kl_max": None, "feature_error": None,
        "bytes": 5_830_000, "peak_bytes": 445_000_000, "tokens_per_second": 55.4, "mention_rate": 0.25, "recall": None,
        "intervals": {"mention_rate": [0.2, 0.3]}, "remark": "as it is",
    }  # fmt: skip
    origin = {"revision": read_header(folder / "language-f16.gguf").metadata["rlaif.revision"]}
    old = row | {"revision": "0", "export": "old"}
    (folder / "check.json").write_text(json.dumps([row | origin, old]))
    assert export(tmp_path, "f16", tiny_model) == 0
    card = (folder / "README.md").read_text()
    assert "| f16 | 79 of 80 | 6.6e-08 | - | - | 5.83 | 445 | 55 | 25.0% [20.0, 30.0] | - |" in card
    assert "- f16: as it is" in card and "| old |" not in card


def test_quantizations_are_made_from_f16(llama_cpp: Any, tmp_path: Path) -> None:
    """The embedded policy: its rows are whole blocks, which take k-quants, and every quantization is smaller."""
    assert export(tmp_path, "f16 Q8_0 Q6_K Q4_K_M Q4_0", ROOT / "assets" / "policy") == 0
    run = tmp_path / "run"
    headers = {quant: read_header(language_file(run, quant)) for quant in ("f16", "Q8_0", "Q6_K", "Q4_K_M", "Q4_0")}
    kinds = {quant: {stored.type for stored in header.tensors.values()} for quant, header in headers.items()}
    assert kinds == {
        "f16": {"F16", "F32"}, "Q8_0": {"Q8_0", "F32"}, "Q6_K": {"Q6_K", "F32"}, "Q4_K_M": {"Q4_K", "Q6_K", "F32"},
        "Q4_0": {"Q4_0", "Q6_K", "F32"},
    }  # fmt: skip
    sizes = [language_file(run, quant).stat().st_size for quant in headers]
    assert sizes == sorted(sizes, reverse=True)
    for header in headers.values():
        assert header.metadata["rlaif.revision"] == headers["f16"].metadata["rlaif.revision"]
        assert header.tensors.keys() == headers["f16"].tensors.keys()
    assert "FROM ./language-Q4_K_M.gguf" in (run / "edge" / "Modelfile").read_text()  # not the last or the smallest
    written = times(run / "edge")
    assert export(tmp_path, "Q4_K_M", ROOT / "assets" / "policy") == 0
    assert times(run / "edge") == written
