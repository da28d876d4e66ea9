"""A response of the stock server, as it writes it, compared with the policy's answer."""

import math
from typing import Any

import numpy as np
import pytest

from edge.check.reference import Reference
from edge.check.stock import StockAnswer, read_response
from edge.slices import Prompt

HALF, QUARTER = math.log(0.5), math.log(0.25)
LOGITS = np.array([[HALF, QUARTER, QUARTER], [QUARTER, HALF, QUARTER]], np.float32)  # the second ends the answer


def reference(text: str = "a") -> Reference:
    return Reference(Prompt([5, 2, 2, 6], [(1, 3)], None, 1), np.ones((1, 2, 4), np.float32), [0, 1], LOGITS, text, 1.0)


def response(text: str, *steps: dict[int, float], prompt_tokens: int = 4) -> dict[str, Any]:
    """steps: the log-probabilities of a token's candidates, the chosen one first."""
    content = [
        {"id": next(iter(step)), "top_logprobs": [{"id": id, "logprob": logprob} for id, logprob in step.items()]}
        for step in steps
    ]
    return {
        "choices": [{"message": {"content": text}, "logprobs": {"content": content}}],
        "usage": {"prompt_tokens": prompt_tokens},
        "timings": {"predicted_n": 2, "predicted_ms": 50.0},
    }


def read(given: dict[str, Any]) -> StockAnswer:
    return read_response(given, reference())


def test_equal_probabilities_have_no_divergence() -> None:
    answer = read(response("a", {0: HALF, 1: QUARTER, 2: QUARTER}, {1: HALF, 0: QUARTER, 2: QUARTER}))
    assert answer.comparison.same and answer.same_slices
    assert answer.comparison.kl == pytest.approx([0.0, 0.0], abs=1e-6)
    assert answer.comparison.feature_error is None  # it does not give its features
    assert (answer.tokens, answer.seconds) == (2, 0.05)


def test_tokens_after_the_first_difference_do_not_count() -> None:
    """The server takes token 2 first: KL((1/2, 1/4, 1/4) || (1/4, 1/4, 1/2)) = ln 2 / 4."""
    answer = read(response("c", {2: HALF, 1: QUARTER, 0: QUARTER}, {0: HALF, 1: QUARTER, 2: QUARTER}))
    assert not answer.comparison.same
    assert answer.comparison.kl == pytest.approx([math.log(2) / 4], rel=1e-6)


def test_another_number_of_slices_shows_in_the_length_of_the_prompt() -> None:
    assert not read(response("a", {0: HALF, 1: QUARTER, 2: QUARTER}, prompt_tokens=6)).same_slices
