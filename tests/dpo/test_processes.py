"""DPO on two processes: the losses, weights and served answers of one, and a process that is killed.

The tests share their cases with the whole matrix of methods and shardings, which takes several minutes:
`RLAIF_PROCESSES=all .venv/bin/python -m pytest tests/dpo/test_processes.py`.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dpo.stage import run_dpo
from model import MiniCPMVForConditionalGeneration
from rlaif.config import Config, EngineSection, ModelSection
from rlaif.errors import RunMismatchError
from rlaif.inference.engine import Request
from rlaif.storage.run import Run
from tests.support.alignment import config_of, weights
from tests.support.engines import SharedEngines
from tests.support.kills.launched import EVERYTHING, SHARDINGS, start, start_and_kill
from tests.support.pair_rows import pair_row, png, varied_pairs, write_pairs

QUICK = [("full", "fsdp2"), ("lora", "ddp")]
ALL = [(method, sharding) for method in ("full", "lora") for sharding in SHARDINGS]
CASES = ALL if EVERYTHING else QUICK


def case_of(model: Path, method: str, batch: int, cache: Path | None = None, **trainer: Any) -> Config:
    """Four steps over eight pairs, one without an image. The large epsilon keeps Adam from taking whole steps on the
    rounding errors of gradients that are zero.
    """
    settings = {"adam_epsilon": 0.01, "save_steps": 1, "lr_scheduler_type": "linear", **trainer}
    settings |= {"per_device_train_batch_size": batch, "gradient_checkpointing": True}
    lora = {"r": 4, "dropout": 0.0, "train_resampler": True}
    kept = {"cache_vision": None if cache is None else str(cache)}
    return config_of(model, settings, method=method, lora=lora, shared_prefix=method == "full", **kept)


def pairs() -> list[dict[str, Any]]:
    without = pair_row("text", "what is red", "a circle", "a star", size=None)
    return [*varied_pairs(7), without]  # so that no step has no image, where one process would leave vision alone


def prepare(run: Path, config: Config) -> list[str]:
    """A run folder with pairs, which this process does not lock, and the arguments of the stage on it."""
    write_pairs(run.with_suffix(".pairs"), config, pairs())
    shutil.copytree(run.with_suffix(".pairs"), run)
    file = run.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return ["--config", str(file), "--run", str(run)]


def losses(run: Path) -> list[float]:
    log = json.loads((run / "dpo" / "log.json").read_text())
    return [entry[name] for entry in log if "loss" in entry for name in ("loss", "rewards/margins")]


def answers(engines: SharedEngines, policy: Path) -> list[tuple[str, float]]:
    """What vLLM serves: the tokens of greedy answers with their log-probabilities."""
    settings = EngineSection.model_validate({"max_model_len": 512, "max_num_seqs": 2})
    requests = [
        Request("what is in this picture", png((112, 56)), max_tokens=8, token_logprobs=True),
        Request("is there a star", max_tokens=8, token_logprobs=True),
    ]
    engine = engines(ModelSection(model=str(policy), dtype="float32"), settings, 0)
    return [token for (completion,) in engine.generate(requests) for token in completion.tokens or ()]


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")  # of vLLM's libraries
@pytest.mark.parametrize(("method", "sharding"), CASES)
def test_two_processes_align_as_one_does_also_after_one_of_them_was_killed(
    method: str, sharding: str, tiny_model: Path, tmp_path: Path, engines: SharedEngines
) -> None:
    killed = EVERYTHING or sharding == "fsdp2"
    config = case_of(tiny_model, method, batch=2)
    one, two = tmp_path / "one", tmp_path / "two"
    prepare(one, config)
    run_dpo(Run(one, config, "dpo"))
    cache = None if sharding == "zero3" else tmp_path / "cache"  # refused there; without one, steps encode images
    arguments = prepare(two, case_of(tiny_model, method, batch=1, cache=cache))

    if killed:
        start_and_kill(sharding, 2, ["dpo", *arguments])
        assert (two / "dpo" / "checkpoint-2").is_dir() and not (two / "policy").exists()
        assert "was ended by SIGKILL and the others were stopped" in (two / "process.log").read_text()  # the launcher's

        copy = Path(shutil.copytree(two, tmp_path / "copy"))
        with pytest.raises(RunMismatchError, match=r"checkpoint-2 was written by 2 proc.*, and this start has 1 proc"):
            run_dpo(Run(copy, case_of(tiny_model, method, batch=1), "dpo"))

    done = start(sharding, ["dpo", *arguments])
    assert done.returncode == 0, done.stderr
    assert (two / "dpo.log").read_text().count(f"Z dpo: {two}\n") == 1 + killed  # of the first process alone
    assert (f"resumes from {two}/dpo/checkpoint-2" in done.stdout) == killed and done.stdout.count("dpo: done in") == 1

    assert losses(two) == pytest.approx(losses(one), abs=1e-5) and len(losses(one)) == 2 * 5
    expected, actual = weights(one / "policy"), weights(two / "policy")
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, rtol=0, atol=1e-5, msg=name)
    assert max((expected[name] - tensor).abs().max() for name, tensor in weights(tiny_model).items()) > 1e-3
    assert {file.name for file in (two / "policy").iterdir()} == {file.name for file in (one / "policy").iterdir()}
    assert MiniCPMVForConditionalGeneration.from_pretrained(two / "policy").dtype == torch.float32
    assert (two / "dpo" / "adapter" / "adapter_model.safetensors").is_file() == (method == "lora")

    expected_answers, actual_answers = answers(engines, one / "policy"), answers(engines, two / "policy")
    assert [text for text, _ in actual_answers] == [text for text, _ in expected_answers] and len(actual_answers) > 8
    logprobs = [logprob for _, logprob in expected_answers]
    assert [logprob for _, logprob in actual_answers] == pytest.approx(logprobs, abs=1e-3)
