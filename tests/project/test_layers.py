"""Who may import whom. Imports are read anywhere in a file, and so are module names in strings."""

from collections import defaultdict
from pathlib import Path

import pytest

from rlaif.storage.versions import PACKAGES
from tests.support import ROOT
from tests.support.project.source_tree import (
    DOTTED_NAME,
    MODULE_ARGUMENT,
    cycles,
    exists,
    imports,
    module_name,
    modules,
    modules_run_by_name,
    other_imports,
    source_files,
    strings,
)

# Package -> the other packages that it may import. The packages of rlaif are listed one by one, from bottom to top.
MODEL, FOUNDATION = {"model"}, {"rlaif", "rlaif.errors", "rlaif.text", "rlaif.config"}
SHARED = FOUNDATION | {"rlaif.progress", "rlaif.command", "rlaif.imports", "rlaif.storage", "rlaif.inference"}
SHARED |= {"rlaif.records"}
MAY_IMPORT: dict[str, set[str]] = {
    "model": set(),
    "rlaif": set(),
    "rlaif.errors": set(),
    "rlaif.text": set(),
    "rlaif.imports": set(),
    "rlaif.progress": set(),
    "rlaif.config": {"rlaif.errors"},
    "rlaif.terminal_log": set(),
    "rlaif.command": {"rlaif.errors", "rlaif.config", "rlaif.terminal_log"},
    "rlaif.storage": FOUNDATION,
    "rlaif.records": FOUNDATION,
    "rlaif.inference": (FOUNDATION | MODEL | {"rlaif.imports", "rlaif.progress", "rlaif.storage", "rlaif.command"}),
    "rlaif.sources": SHARED | MODEL,
    "rlaif.processes": SHARED,
    "rlaif.launch": FOUNDATION | {"rlaif.terminal_log"},
    "rlaif.trainer": SHARED | {"rlaif.processes"},
    "rlaif.memory": FOUNDATION | MODEL,
    "rlaif.report": SHARED | MODEL,
    "rlaif.interchange": SHARED | MODEL | {"rlaif.report", "rlaif.sources"},
    # feedback: where a claim stands in a response; evaluation: the sample and the verdicts of an audit
    "browser": MODEL | SHARED | {"rlaif.report", "feedback", "evaluation"},
    "rlaif.pipelines": SHARED | {"rlaif.report", "rlaif.memory", "rlaif.launch"},
    "scenes": MODEL | SHARED,
    "generation": MODEL | SHARED | {"rlaif.sources", "scenes"},  # scenes: one source of prompts
    "feedback": MODEL | SHARED,
    "dpo": MODEL | SHARED | {"rlaif.memory", "rlaif.processes", "rlaif.trainer"},
    "training": MODEL | SHARED | {"rlaif.memory", "rlaif.processes", "rlaif.trainer"},
    # scenes: one truth, and its benchmark files
    "evaluation": MODEL | SHARED | {"rlaif.report", "rlaif.records", "rlaif.sources", "feedback", "scenes"},
    # evaluation: hallucination after quantisation; scenes: pictures whose truth is known
    "edge": MODEL | SHARED | {"rlaif.report", "rlaif.records", "rlaif.sources", "evaluation", "scenes"},
}
RUN_BY_NAME = {
    "rlaif.pipelines": {"generation", "feedback", "dpo", "evaluation"},  # runs each as a process
    "browser": {"generation", "feedback", "dpo"},  # as the report
    "rlaif.report": {"generation", "feedback", "dpo"},  # shows what their metrics say, by the stage's name
}
PACKAGE_FILES = [path for path in source_files() if path.parts[0] in PACKAGES]
# Files, weights and audit events that are named like a package.
NO_MODULES: tuple[str, ...] = ("model.safetensors", "model.language_model", "model.vision_model")
NO_MODULES += ("model.gguf", "scenes.parquet", "tests.request", "edge.txt", "browser.css", "browser.js", "browser.svg")
GGUF_KEYS = ("policy", "revision", "code_version", "llama_cpp", "export_version", "embedding_width", "positions")
NO_MODULES += tuple(f"rlaif.{key}" for key in (*GGUF_KEYS, "score_error"))


def package(module: str) -> str:
    """rlaif.storage.run -> rlaif.storage; dpo.trainer -> dpo."""
    return ".".join(module.split(".")[:2]) if module.startswith("rlaif.") else module.split(".")[0]


@pytest.mark.parametrize("path", PACKAGE_FILES, ids=str)
def test_who_may_import_whom(path: Path) -> None:
    here = package(module_name(path))
    assert {package(name) for name in imports(path)} <= MAY_IMPORT[here] | {here}


@pytest.mark.parametrize("path", PACKAGE_FILES, ids=str)
def test_module_names_in_strings_respect_the_layers(path: Path) -> None:
    here = package(module_name(path))
    named = {package(name) for name in modules_run_by_name(path)}
    assert named <= MAY_IMPORT[here] | RUN_BY_NAME.get(here, set()) | {here}


def test_only_edge_imports_what_its_set_up_installs() -> None:
    """So that everything else works without requirements/edge.txt. The bench and the tests of edge may."""
    packages = {"cmake", "gguf", "llama_cpp", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "openvino", "xllamacpp"}
    allowed = ("edge", "bench", "tests")
    files = [path for path in source_files() if path.parts[0] not in allowed]
    assert {str(path): named for path in files if (named := other_imports(path) & packages)} == {}
    assert "vllm" in other_imports(Path("rlaif/inference/vllm_engine.py"))


@pytest.mark.parametrize("path", source_files(), ids=str)
def test_module_names_in_strings_exist(path: Path) -> None:
    """Targets of monkeypatch, arguments of subprocesses, names in messages. In tests, only names of packages of which
    no section of a configuration has the name: there a wrong key may be what is tested.
    """
    sections = ("generation.", "feedback.", "dpo.", "evaluation.", "training.", "edge.")
    names = [name for _, text in strings(path) for name in DOTTED_NAME.findall(text)]
    wrong = {name for name in names if not name.startswith((*NO_MODULES, *sections)) and not exists(name)}
    assert not wrong


def test_modules_that_commands_run_exist() -> None:
    """`-m NAME` in the Makefile, the configurations' headers and the code."""
    texts = {str(path): (ROOT / path).read_text() for path in source_files()}
    texts |= {path.name: path.read_text() for path in [ROOT / "Makefile", *(ROOT / "configs").rglob("*.yaml")]}
    named = {name for text in texts.values() for name in MODULE_ARGUMENT.findall(text)}
    ours = {name for name in named if name.split(".")[0] in {*PACKAGES, "bench"}}
    assert {"rlaif.report", "generation", "evaluation.benchmarks", "bench"} <= ours
    assert ours <= modules().keys()


def test_no_import_cycle_between_modules() -> None:
    """Imports within functions and for type checking count: they are what hides a cycle."""
    assert cycles({name: imports(path) - {name} for name, path in modules().items()}) == []


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_import_cycle_between_folders(depth: int) -> None:
    """Modules are grouped by the first one, two or three parts of their names."""
    graph: dict[str, set[str]] = defaultdict(set)
    for name, path in modules().items():
        group = ".".join(name.split(".")[:depth])
        graph[group] |= {".".join(other.split(".")[:depth]) for other in imports(path)} - {group}
    assert cycles(graph) == []


def test_cycles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}, "e": {"f"}, "f": {"g"}, "g": {"e"}}
    assert cycles(graph) == [["b", "c"], ["e", "f", "g"]]


def test_imports_and_strings_are_read_everywhere() -> None:
    """The layers are only as good as what is read: a lazy import, names in STAGES, a subprocess of a test."""
    assert "rlaif.inference.vllm_engine" in imports(Path("rlaif/inference/open.py"))
    assert {"generation", "rlaif.report"} <= modules_run_by_name(Path("rlaif/pipelines/stages.py"))
    assert "evaluation.benchmarks" in modules_run_by_name(Path("tests/evaluation/benchmarks/test_stage.py"))
    assert exists("rlaif.storage.run.Run") and not exists("rlaif.storage." + "run.Ran")


def test_no_test_imports_from_another() -> None:
    """Builders and doubles that tests share are in tests/support."""
    shared = ("tests.support", "tests.conftest")
    importing = {
        str(path)
        for path in source_files()
        for name in imports(path)
        if name.startswith("tests.") and not name.startswith(shared) and name != module_name(path)
    }
    assert importing == set()
