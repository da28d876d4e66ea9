"""A saved policy in vLLM without our packages: the same tokens as here, for the same question and picture."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dpo.policy import load_collator, load_policy, save_policy
from rlaif.config import DpoSection, EngineSection, ModelSection
from rlaif.inference.engine import Request
from rlaif.storage.versions import PACKAGES
from tests.support import ROOT
from tests.support.engines import SharedEngines, outputs_of
from tests.support.published import plain_vllm
from tests.support.published.minicpmv import save_published
from tests.support.published.releases import RELEASES

# vLLM runs in this process, and its libraries raise warnings.
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

SIZES = [(56, 56), (300, 700), (640, 480)]  # the overview alone, and slices


def save_trained(start: Path, folder: Path) -> None:
    """Save a policy as `dpo` does, with weights that have moved."""
    section = ModelSection(model=str(start), dtype="float32")
    model = load_policy(section, trains=True)
    torch.manual_seed(1)  # some answers of these weights end, others do not
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_policy(model, load_collator(section, DpoSection(), None), section, folder)


def answers_without_us(folder: Path, pictures: Path, work: Path) -> list[dict[str, Any]]:
    environment = {
        **os.environ,
        "HF_HOME": str(work / "home"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": "",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_PLUGINS": "",  # ours is installed here
    }
    answers = work / "answers.json"
    done = subprocess.run(
        [sys.executable, "-P", plain_vllm.__file__, str(folder), str(pictures), str(answers), *PACKAGES],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    rows: list[dict[str, Any]] = json.loads(answers.read_text())
    return rows


@pytest.mark.parametrize("version", RELEASES)
def test_vllm_without_us_answers_as_we_do(
    version: str, tmp_path: Path, engines: SharedEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, policy, pictures = (tmp_path / name for name in ("start", "policy", "pictures"))
    save_published(start, code_raises=False, release=RELEASES[version])
    save_trained(start, policy)
    pictures.mkdir()
    for index, size in enumerate(SIZES):
        noise = np.random.default_rng(index).normal(128, 90, size[::-1]).clip(0, 255).astype(np.uint8)
        Image.fromarray(noise).convert("RGB").save(pictures / f"{index}.png")
    theirs = answers_without_us(policy, pictures, tmp_path)

    monkeypatch.chdir(ROOT)
    section = ModelSection(model=str(policy), dtype="float32")
    engine = engines(section, EngineSection(max_model_len=1024, max_num_seqs=4), 0).engine
    images = [None, *(file.read_bytes() for file in sorted(pictures.iterdir()))]
    for image, row in zip(images, theirs, strict=True):
        request = Request(plain_vllm.QUESTION, image, n=1, seed=0, temperature=0.0, max_tokens=24, token_logprobs=True)
        (answer,), (output,) = outputs_of(engine, request, monkeypatch)
        assert list(output.prompt_token_ids) == row["prompt"]
        assert list(output.outputs[0].token_ids) == row["answer"]
        assert (answer.text, answer.finish_reason) == (row["text"], row["finish_reason"])
        assert answer.tokens is not None
        assert [logprob for _, logprob in answer.tokens] == pytest.approx(row["logprobs"], abs=1e-4)
    sums = [sum(row["logprobs"]) for row in theirs]
    assert all(abs(a - b) > 1e-3 for a, b in pairwise(sums)), "the pictures make a difference"
    ends = {row["answer"][-1] for row in theirs if row["finish_reason"] == "stop"}
    assert ends == {engine._tokenizer.eos_token_id}, "answers end though no request names an end token"
