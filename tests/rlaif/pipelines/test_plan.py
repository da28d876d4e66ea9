"""`make plan`: what fits, what to change, and that every configuration can be planned."""

import re
from pathlib import Path

import pytest

from rlaif.pipelines.plan import DPO_DEFAULTS, TRAINING_DEFAULTS, main
from tests.support import ROOT
from tests.support.project.make import dry_run

RUNS = [path for path in sorted((ROOT / "configs").glob("*.yaml")) if path.stem not in ("ablations", "rewrite")]
TRAINING = sorted((ROOT / "configs" / "training").glob("*.yaml"))
TRAINING = [path for path in TRAINING if path.name != "encoder.yaml"]  # which trains no language model
FULL_SIZE = str(ROOT / "configs" / "minicpmv-2.5.yaml")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_root")]


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_every_configuration_of_a_run_fits_a_gpu_of_80_gb(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(path), "--gpu-memory", "80"]) == 0
    printed = capsys.readouterr().out
    assert "reckoned, not measured, for a GPU of 80 GiB" in printed and "| dpo |" in printed


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.name)
def test_every_training_configuration_is_planned(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(path), "--gpu-memory", "80", "--set", "model=assets/policy"]) == 0
    assert "| training | weights | reference model |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        (["--set", "dpo.method=full"], "set dpo.method=lora"),
        (["--set", "dpo.method=full", "--processes", "8"], "of a GPU of 80 GiB; SHARDING=fsdp2\n"),
        (["--gpu-memory", "24"], "set dpo.trainer.gradient_checkpointing=true"),
        (["--gpu-memory", "16"], "set engine.tensor_parallel_size=2 or engine.tensor_parallel_size=4\n"),
        (["--set", "engine.max_model_len=100"], "but the largest image alone has 1,000 tokens; raise it"),
        (["--set", "dpo.method=full", "--gpu-memory", "16"], "set dpo.method=lora and set dpo.quantization=4bit"),
    ],
)
def test_what_does_not_fit_says_what_to_change(
    options: list[str], cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", FULL_SIZE, "--gpu-memory", "80", *options]) == 2
    errors = capsys.readouterr().err
    assert cure in errors and all(line.startswith("error: ") for line in errors.splitlines())


def test_full_training_fits_eight_gpus_that_share_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    """Of 34 GB of weights, 34 of gradients and 68 of moments an eighth is on each."""
    options = ["--gpu-memory", "80", "--processes", "8", "--sharding", "fsdp2", "--set", "dpo.method=full"]
    assert main(["--config", FULL_SIZE, *options]) == 0
    assert re.search(r"\| dpo \| 4\.0 \| [\d.]+ \| 3\.8 \| 7\.6 \|", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sharding", "zero1"], "SHARDING is 'zero1'; expected one of ddp, fsdp2, zero2, zero3"),
        (["--sharding", "fsdp2"], "SHARDING is fsdp2 with one process; set PROCESSES to 2 or more, or remove it"),
        (["--processes", "0"], "PROCESSES is '0'; expected a whole number above 0"),
        (["--processes", "1e30"], "PROCESSES is '1e30'; expected a whole number above 0"),
        (
            ["--set", "dpo.quantization=4bit", "--processes", "2", "--sharding", "fsdp2"],
            "dpo.quantization is 4bit, but SHARDING=fsdp2 divides the model over the processes, which was not tested "
            "with 4 bits; use SHARDING=ddp, or remove dpo.quantization",
        ),
        (["--gpu-memory", "large"], "GPU_MEMORY is 'large'; expected a number above 0"),
        (["--gpu-memory", "inf"], "GPU_MEMORY is 'inf'; expected a number above 0"),
        (
            ["--set", "dpo.trainer.per_device_train_batch_size=0"],
            "trainer.per_device_train_batch_size is 0; expected a whole number above 0",
        ),
        (
            ["--set", "engine.tensor_parallel_size=2"],
            "engine.tensor_parallel_size is 2, but PROCESSES is 1; set PROCESSES to the number of GPUs",
        ),
        (
            ["--set", "policy.model=runs/typo/model"],
            "there is no model folder runs/typo/model; run the stage that writes it first, or name a model "
            "in its place, such as openbmb/MiniCPM-Llama3-V-2_5",
        ),
    ],
)
def test_bad_options_are_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", FULL_SIZE, *options]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_other_configurations_are_not_planned(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("training/encoder.yaml", "rewrite.yaml"):
        assert main(["--config", str(ROOT / "configs" / name)]) == 2
        error = capsys.readouterr().err
        assert error.endswith("nor of a training stage, which has a stage; only these are planned\n")


def test_the_defaults_are_those_of_the_libraries() -> None:
    from transformers import TrainingArguments
    from trl import DPOConfig

    for kind, defaults in ((DPOConfig, DPO_DEFAULTS), (TrainingArguments, TRAINING_DEFAULTS)):
        fields = kind.__dataclass_fields__
        known = {name: getattr(fields[name].default, "value", fields[name].default) for name in defaults}
        assert {**known, "optim": defaults["optim"]} == defaults
        assert fields["optim"].default in ("adamw_torch_fused", "adamw_torch")


def test_make_plan_passes_its_settings() -> None:
    shown = dry_run("plan", "CONFIG=configs/minicpmv-2.5.yaml", "GPU_MEMORY=141", "PROCESSES=8", "SHARDING=zero3")
    expected = "--config 'configs/minicpmv-2.5.yaml' --gpu-memory '141' --processes '8' --sharding 'zero3'"
    assert f"-m rlaif.pipelines.plan {expected}" in shown
