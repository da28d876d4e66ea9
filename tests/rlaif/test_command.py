"""The command line of a stage: its arguments, its help, and errors in one line."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

import pytest

from rlaif.command import at_least_one, parse_stage_args, run_stage
from rlaif.config import AblationsConfig, Config, RewriteConfig, Section, TrainingConfig
from rlaif.errors import ConfigError, InputError


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    path = tmp_path / "some.yaml"
    path.write_text("policy: {model: assets/policy}\nlabeler: {model: assets/labeler}\n")
    return str(path)


def test_stage_arguments(config_file: str) -> None:
    argv = ["--config", config_file, "--run", "runs/x", "--set", "seed=3", "round=2", "--set", "data.limit=5"]
    config, run, _ = parse_stage_args(Config, "generation", "Sample.", argv)
    assert run == Path("runs/x")
    assert (config.seed, config.round, config.data.limit) == (3, 2, 5)


def test_a_run_folder_without_a_name_is_refused(config_file: str) -> None:
    with pytest.raises(ConfigError, match="RUN is empty, expected the folder of a run, such as runs/demo; give one"):
        parse_stage_args(Config, "generation", "Sample.", ["--config", config_file, "--run", ""])


@pytest.mark.parametrize("text", ["0", "-3", "2.5", "many", "", "\u0663"])
def test_a_number_of_things_is_whole_and_positive(text: str) -> None:
    assert at_least_one("12") == 12
    with pytest.raises(ArgumentTypeError, match="is not a whole number from 1 on"):
        at_least_one(text)


def test_stage_help_names_the_module(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_stage_args(Config, "generation", "Sample.", ["--help"])
    assert caught.value.code == 0
    assert "usage: python -m generation" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [Config, AblationsConfig, RewriteConfig, TrainingConfig])
def test_stage_help_fits_every_configuration(kind: type[Section], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in it belongs to one kind of configuration, such as generation.temperature."""
    with pytest.raises(SystemExit):
        parse_stage_args(kind, "training", "Train.", ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "such as those in configs/" in shown and "change single values of the configuration" in shown
    assert "demo" not in shown and "generation" not in shown


def failing(error: Exception) -> Callable[[Config, Path], None]:
    def stage(config: Config, path: Path) -> None:
        raise error

    return stage


def test_errors_of_the_user_are_one_line_and_others_keep_their_traceback(
    config_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--config", config_file, "--run", "runs/x"]

    def status(error: Exception) -> int:
        return run_stage(Config, "generation", "Sample.", failing(error), argv)

    assert status(InputError("no images in photos")) == 2
    assert capsys.readouterr().err == "error: no images in photos\n"
    assert status(OSError(28, "No space left on device", "a.parquet")) == 2
    assert capsys.readouterr().err == (
        "error: [Errno 28] No space left on device: 'a.parquet'; fix it and run the same command again, which resumes\n"
    )
    with pytest.raises(ValueError, match="a defect"):
        status(ValueError("a defect"))
    assert run_stage(Config, "generation", "Sample.", lambda *_: None, argv) == 0
    assert run_stage(Config, "generation", "Sample.", lambda *_: None, [*argv, "--set", "sed=1"]) == 2
    assert "unknown key 'sed'; did you mean 'seed'?" in capsys.readouterr().err
