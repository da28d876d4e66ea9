import json
import re

import pytest

from feedback.check.claim import Source, check_claim
from tests.support import ROOT


@pytest.mark.parametrize(
    ("file", "question", "answer", "examples"),
    [
        ("feedback/prompts/split.txt", "Question: ", "Answer: ", 5),
        ("configs/chinese/prompts/split.txt", "\u95ee\u9898\uff1a", "\u56de\u7b54\uff1a", 4),
    ],
)
def test_the_examples_of_the_prompts_pass_the_checks(file: str, question: str, answer: str, examples: int) -> None:
    """What a labeler learns from an example must be asked as it is."""
    text = (ROOT / file).read_text(encoding="utf-8")
    found = re.findall(rf'{question}(.*)\n{answer}(.*)\n({{"claims.*)', text)
    assert len(found) == examples
    for instruction, response, split in found:
        for item in json.loads(split)["claims"]:
            finding = check_claim(item["claim"], item["question"], Source(instruction, response))
            assert finding.outcome == "asked", item
