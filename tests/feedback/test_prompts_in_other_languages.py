"""Prompts in other languages: complete, and what their examples show passes the checks of the stage."""

import json
import re

import pytest

from feedback.check.claim import Source, check_claim
from feedback.labeler_prompts import read_prompts
from rlaif.config.load import load_config
from tests.support import ROOT

EXAMPLE = re.compile(r'\n\S+?\uff1a(?P<instruction>.+)\n\S+?\uff1a(?P<response>.+)\n(?P<json>\{"claims".+\})')


@pytest.mark.parametrize("name", ["chinese"])
def test_the_examples_are_claims_of_their_answers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load_config(f"configs/{name}.yaml")
    prompts = read_prompts(config.feedback.prompts)
    examples = list(EXAMPLE.finditer(prompts.split))
    assert len(examples) == 4
    for example in examples:
        source = Source(example["instruction"], example["response"])
        for item in json.loads(example["json"])["claims"]:
            assert check_claim(item["claim"], item["question"], source).outcome == "asked", item
    yes, no = config.feedback.answers.yes[0], config.feedback.answers.no[0]
    for prompt in (prompts.verify, prompts.whole):
        assert yes in prompt.splitlines()[-1] and no in prompt.splitlines()[-1]
