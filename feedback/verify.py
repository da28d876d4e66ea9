"""Conquer: the labeler sees the image and a question; only the probabilities of its first token are read.

p_yes is the probability, over the full vocabulary, that the first token is any spelling of "yes" ("yes", "Yes", " yes",
...), p_no likewise, and p_other is what is left. A claim is accepted iff p_yes > p_no (RLAIF-V, arXiv
2405.17220). Nothing the labeler writes is interpreted.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rlaif.errors import ModelError
from rlaif.inference.engine import Engine, Request


@dataclass(frozen=True)
class Verdict:
    """First-token probabilities of one question."""

    p_yes: float
    p_no: float

    @property
    def p_other(self) -> float:
        """Probability of any other first token (rounding below 0 is clipped)."""
        return max(0.0, 1.0 - self.p_yes - self.p_no)

    @property
    def accepted(self) -> bool:
        return self.p_yes > self.p_no


def verify(
    engine: Engine, questions: Iterable[tuple[str, str]], images: Mapping[str, bytes], title: str
) -> dict[tuple[str, str], Verdict]:
    """Verdicts by (image, request), for image keys and the full texts of requests; `images` maps keys to encoded files.

    Each request is made once an image however many claims share it, and those of one image stand in a row, so that its
    prefix and its encoder output are computed once. One that the labeler cannot take, or refuses, has no verdict.
    """
    asked = sorted(set(questions))
    requests = [
        Request(text=text, image=images[image], max_tokens=1, first_words=("yes", "no")) for image, text in asked
    ]
    verdicts = {}
    for key, (completion,) in zip(asked, engine.generate(requests, f"{title}: verify"), strict=True):
        if completion.first_words is not None:
            verdicts[key] = read_verdict(completion.first_words)
    return verdicts


def read_verdict(probabilities: Mapping[str, float]) -> Verdict:
    """The probabilities of yes and of no as a verdict; ModelError where the labeler gives NaN."""
    verdict = Verdict(probabilities["yes"], probabilities["no"])
    if not math.isfinite(verdict.p_yes + verdict.p_no):
        raise ModelError(
            "the labeler's log-probabilities are NaN; set labeler.dtype to float32, or use another labeler"
        )
    return verdict
