"""The house rules: who imports whom, what should not exist, what is promised by name."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rlaif.config import AblationsConfig, Config, RewriteConfig
from rlaif.config.load import load_config, load_config_of
from rlaif.pipelines.ablations import load
from rlaif.pipelines.stages import STAGES as WHOLE_ROUND
from rlaif.storage.versions import PACKAGES
from tests.support import ROOT

MAY_IMPORT = {
    "model": set(),
    "rlaif": {"model"},
    "scenes": {"rlaif", "model"},
    "generation": {"scenes", "rlaif", "model"},
    "feedback": {"scenes", "rlaif", "model"},
    "dpo": {"rlaif", "model"},
    "training": {"rlaif", "model"},
    "evaluation": {"feedback", "scenes", "rlaif", "model"},
}
STAGES = (
    "generation",
    "feedback",
    "dpo",
    "evaluation",
    "rlaif.report",
    "rlaif.pipelines.rounds",
    "rlaif.pipelines.ablations",
    "rlaif.pipelines.best_of_n",
    "dpo.rewards",
    "evaluation.selection",
    "generation.rewrite",
    "evaluation.caption_errors",
    "evaluation.compare_labelers",
    "rlaif.inference.serve",
    "evaluation.benchmarks",
    "rlaif.interchange.export",
)
HEAVY = ("torch", "vllm", "transformers", "trl", "peft", "datasets", "pandas")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
KINDS = {"rewrite.yaml": RewriteConfig, "ablations.yaml": AblationsConfig}
ROUNDS = [path for path in CONFIGS if path.name not in KINDS]


def imported(tree: ast.AST) -> set[str]:
    """The full names of all modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_who_may_import_whom(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    siblings = {name.split(".")[0] for name in imported(ast.parse(path.read_text()))} & set(PACKAGES)
    assert siblings <= MAY_IMPORT[package] | {package}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_dumping_ground_and_no_hidden_doors(path: Path) -> None:
    assert path.stem not in {"utils", "util", "common", "base", "helpers", "misc", *HEAVY}
    text = path.read_text()
    assert "sys.path" not in text
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"bare except in line {node.lineno}"


@pytest.mark.parametrize("stage", STAGES)
def test_help_is_instant(stage: str) -> None:
    heavy = (*HEAVY, "numpy", "pyarrow") if stage in WHOLE_ROUND else HEAVY
    command = (
        "import runpy, sys\n"
        f"sys.argv = ['{stage}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('{stage}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        f"print('loaded:', [name for name in {heavy} if name in sys.modules])\n"
    )
    told = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"usage: python -m {stage}" in told
    assert told.endswith("loaded: []\n")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_loads_and_its_header_says_what_for(path: Path) -> None:
    load_config_of(KINDS.get(path.name, Config), path)
    header = path.read_text().split("\n\n")[0]
    assert all(word in header for word in ("command ", "cost ", "result "))


def test_every_variant_of_the_ablations_is_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    table = load_config_of(AblationsConfig, "configs/ablations.yaml")
    assert len({load(table, name).model_dump_json() for name in table.variants}) == len(table.variants) == 9


@pytest.mark.parametrize("path", ROUNDS, ids=lambda path: path.name)
def test_trainer_keys_are_those_of_trl(path: Path) -> None:
    from trl import DPOConfig

    assert load_config(path).dpo.trainer.keys() <= DPOConfig.__dataclass_fields__.keys()


def test_make_help_lists_every_target_and_setting() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = next(line for line in makefile.splitlines() if line.startswith(".PHONY:")).split()[1:]
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in told.splitlines() if line.startswith("  make ")] == phony
    for setting in ("CONFIG=", "RUN=", "SET=", "PYTHON="):
        assert setting in told
    for target in phony:
        dry = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert dry.strip(), target


def test_make_passes_config_run_and_set() -> None:
    arguments = ["make", "-n", "feedback", "CONFIG=configs/photos.yaml", "SET=seed=1 dpo.freeze=[vision,llm]"]
    told = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-m feedback --config configs/photos.yaml --run runs/photos --set 'seed=1' 'dpo.freeze=[vision,llm]'" in told


def test_make_exports_by_name_and_pushes_only_where_told() -> None:
    def dry(*settings: str) -> str:
        arguments = ["make", "-n", "export", *settings]
        stray = {**os.environ, "PUSH": "some/where"}
        return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True, env=stray).stdout

    told = dry("FORMAT=ms-swift", "PUSH=owner/name", "SET=export.license=mit")
    assert "--set 'export.license=mit' --set export.format=ms-swift --set export.push=owner/name" in told
    assert (
        "-m rlaif.interchange.export --config" in dry()
        and "export." not in dry().partition("-m rlaif.interchange.export")[2]
    )


def test_make_rewrites_captions_by_its_own_configuration() -> None:
    for setting, config in (("SET=", "configs/rewrite.yaml"), ("CONFIG=configs/mine.yaml", "configs/mine.yaml")):
        told = subprocess.run(
            ["make", "-n", "rewrite-captions", setting], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        run = f"--config {config} --run runs/{Path(config).stem}"
        assert f"-m generation.rewrite {run}" in told and f"-m evaluation.caption_errors {run}" in told
        assert ("scenes.recipe.raw_captions" in told) == (config == "configs/rewrite.yaml")


def test_make_names_the_benchmark() -> None:
    arguments = ["make", "-n", "benchmark", "NAME=amber", "SET=benchmark.path=files"]
    told = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--set 'benchmark.path=files' --set 'benchmark.name=amber'" in told


def test_versions_are_pinned_in_one_place() -> None:
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for name in ("pins.txt", "cpu.txt")
        for line in (ROOT / "requirements" / name).read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["dependencies"] + project["optional-dependencies"]["cpu"] + project["optional-dependencies"]["dev"]
    assert all(name.replace("-", "").replace("_", "").isalnum() for name in named), "pyproject.toml pins nothing"
    assert {name.lower().replace("_", "-") for name in named} <= pins
    assert not {"torchvision", "torchaudio", "torchcodec"} & pins


def test_model_exports() -> None:
    import model

    names = ("MiniCPMVConfig", "MiniCPMVImageProcessor", "MiniCPMVProcessor", "MiniCPMVForConditionalGeneration")
    for name in names:
        assert getattr(model, name).__name__ == name
