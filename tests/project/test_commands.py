"""The commands: `make help` lists every target, each runs what it says, and --help of each command is fast."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rlaif.pipelines.stages import STAGES as WHOLE_ROUND
from tests.support import ROOT
from tests.support.project.make import dry_run, make_help
from tests.support.project.source_tree import MODULE_ARGUMENT

EDGE = ("gguf", "llama_cpp", "onnx", "onnxruntime", "openvino", "xllamacpp")
HEAVY = ("torch", "vllm", "transformers", "trl", "peft", "datasets", "pandas", *EDGE)
MAKEFILE = (ROOT / "Makefile").read_text()
COMMANDS = sorted(
    {
        name
        for name in MODULE_ARGUMENT.findall(MAKEFILE.replace("$(LAUNCHER) ", "-m "))
        if not name.startswith(("pip", "pytest", "venv", "bench"))
    }
    | {"dpo.rewards", "evaluation.selection", "feedback.check_splits"}
)


def phony() -> list[str]:
    """The targets that the Makefile declares, in its order."""
    return next(line for line in MAKEFILE.splitlines() if line.startswith(".PHONY:")).split()[1:]


def test_make_help_lists_every_target_and_setting() -> None:
    shown = make_help()
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("  make ")] == phony()
    for setting in re.findall(r"^([A-Z_]+) \?=", MAKEFILE, re.MULTILINE):
        assert f"  {setting}=" in shown


def test_every_target_is_declared() -> None:
    targets = re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, re.MULTILINE)
    assert set(targets) == set(phony())


@pytest.mark.parametrize("target", phony())
def test_every_target_runs_something(target: str) -> None:
    assert dry_run(target).strip()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str) -> None:
    heavy = (*HEAVY, "numpy", "pyarrow") if command in WHOLE_ROUND else HEAVY
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['{command}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('{command}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        f"print('loaded:', [name for name in {heavy} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m {command}" in done.stdout
    assert done.stdout.endswith("loaded: []\n")


def test_make_passes_config_run_and_set() -> None:
    shown = dry_run("feedback", "CONFIG=configs/photos.yaml", "SET=seed=1 dpo.freeze=[vision,llm]")
    expected = "-m feedback --config 'configs/photos.yaml' --run 'runs/photos' --set 'seed=1' 'dpo.freeze=[vision,llm]'"
    assert expected in shown


def test_make_takes_folders_of_any_name() -> None:
    shown = dry_run("evaluate", "RUN=runs/it's $$(mine) <b>", "CONFIG=~/my configs/a.yaml", HOME="/home/ann")
    assert r"--config '/home/ann/my configs/a.yaml' --run 'runs/it'\''s $(mine) <b>'" in shown
    shown = dry_run("browse", "RUN=~/a b", 'OTHER=the "other"', HOME="/home/ann")
    assert """--run '/home/ann/a b' --other 'the "other"' --port""" in shown


def test_make_exports_by_name_and_pushes_only_where_the_command_line_says_so() -> None:
    shown = dry_run("export", "FORMAT=ms-swift", "PUSH=owner/name", "SET=export.license=mit", PUSH="some/where")
    assert "--set 'export.license=mit' --set export.format=ms-swift --set export.push=owner/name" in shown
    shown = dry_run("export", PUSH="some/where")
    assert "-m rlaif.interchange --config" in shown
    assert "export." not in shown.partition("-m rlaif.interchange")[2]


def test_make_imports_what_the_command_line_names() -> None:
    shown = dry_run("import", "DATA=some/file.json", "LAYOUT=mmpr", DATA="other.json")
    assert "-m rlaif.interchange.importer --config 'configs/demo.yaml' --run 'runs/import'" in shown
    assert "--set data.source=import 'data.path=some/file.json' data.layout=mmpr" in shown
    assert "data.path" not in dry_run("import", DATA="other.json")


def test_make_rewrites_captions_with_a_configuration_of_its_own() -> None:
    for setting, config in (("SET=", "configs/rewrite.yaml"), ("CONFIG=configs/mine.yaml", "configs/mine.yaml")):
        shown = dry_run("rewrite-captions", setting)
        run = f"--config '{config}' --run 'runs/{Path(config).stem}'"
        assert f"-m generation.rewrite {run}" in shown and f"-m evaluation.caption_errors {run}" in shown
        assert ("scenes.recipe.raw_captions" in shown) == (config == "configs/rewrite.yaml")


def test_make_names_the_benchmark() -> None:
    shown = dry_run("benchmark", "NAME=amber", "SET=benchmark.path=files")
    assert "--set 'benchmark.path=files' --set 'benchmark.name=amber'" in shown


def test_make_compares_two_runs_or_tries_a_labeler_on_audited_claims() -> None:
    assert "-m evaluation.compare_labelers runs/a runs/b" in dry_run("compare-labelers", "RUNS=runs/a runs/b")
    shown = dry_run("compare-labelers", "AUDITS=runs/a b", "CONFIG=configs/endpoint.yaml", "SET=seed=1")
    assert "-m evaluation.audit.read_back --audits 'runs/a b' --config 'configs/endpoint.yaml' --set 'seed=1'" in shown
    both = dry_run("compare-labelers", "AUDITS=runs/a", "RUNS=runs/a runs/b")
    commands = both[both.index("echo 'error: got AUDITS and RUNS; give AUDITS to") :].splitlines()
    assert commands[0].endswith("exit 2") and "-m evaluation" in commands[1], "before the command, not after it"


def test_make_hands_over_texts_and_names_as_they_are_written() -> None:
    shown = dry_run("edge-answer", "IMAGE=it's here.png", 'TEXT=What\'s "this"?', "DEVICE=openvino", "JOINT=1")
    assert r"""--image 'it'\''s here.png' --text 'What'\''s "this"?' --quant 'Q4_K_M' """ in shown
    assert "--device 'openvino' --soc 'snapdragon-8-gen-3' --joint\n" in shown
    assert "--joint" not in dry_run("edge-answer")
    assert "--text 'Does it cost $5 or $HOME?' " in dry_run("edge-answer", "TEXT=Does it cost $5 or $HOME?")


def test_make_serves_an_export_on_loopback() -> None:
    shown = dry_run(
        "edge-serve", "QUANT=f16", "PORT=9000", HOST="a-machine"
    )  # of the environment: some shells export it
    assert "-m edge.serve --config 'configs/demo.yaml' --run 'runs/demo'  --quant 'f16' " in shown
    assert "--host 127.0.0.1 --port 9000" in shown
    assert "--host 0.0.0.0" in dry_run("edge-serve", "HOST=0.0.0.0")
