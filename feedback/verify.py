"""Verify: the labeler gets the image and a claim's question; only the probabilities of its first token are read.

p_yes is the probability, over the full vocabulary, that the first token is any spelling of "yes" ("yes", "Yes", " yes",
...), p_no is the same for "no", and p_other = 1 - p_yes - p_no. A claim is accepted iff p_yes > p_no (RLAIF-V, arXiv
2405.17220). No text of the labeler is interpreted. For prompts in another language `feedback.answers` names the words.
"""

import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rlaif.config import AnswersSection
from rlaif.errors import ModelError
from rlaif.inference.engine import Engine, Request


@dataclass(frozen=True)
class Verdict:
    """First-token probabilities of one question."""

    p_yes: float
    p_no: float

    @property
    def p_other(self) -> float:
        """Probability of any other first token, clipped at 0."""
        return max(0.0, 1.0 - self.p_yes - self.p_no)

    @property
    def accepted(self) -> bool:
        return self.p_yes > self.p_no


ENGLISH = AnswersSection()


async def ask(engine: Engine, text: str, image: bytes | None, answers: AnswersSection = ENGLISH) -> Verdict | None:
    """The verdict on one request, its full text; None where the labeler cannot take it, or refuses. image: None for
    text alone.
    """
    request = Request(text=text, image=image, max_tokens=1, first_words=answers.words)
    (completion,) = await engine.answer(request)
    return None if completion.first_words is None else read_verdict(completion.first_words, answers)


async def verify(
    engine: Engine,
    requests: Iterable[tuple[str, str]],
    images: Mapping[str, bytes | None],
    answers: AnswersSection = ENGLISH,
) -> dict[tuple[str, str], Verdict]:
    """Verdicts by request; a request is (image key, full text), and `images` maps image keys to encoded files, or to
    None for text alone.

    Claims that share an image and a question share one request. The requests of one image are consecutive, so that its
    prefix and encoder output are computed once. A request that the labeler cannot take, or refuses, has no verdict.
    """
    keys = sorted(set(requests))
    verdicts = await asyncio.gather(*(ask(engine, text, images[image], answers) for image, text in keys))
    return {key: verdict for key, verdict in zip(keys, verdicts, strict=True) if verdict is not None}


def read_verdict(probabilities: Mapping[str, float], answers: AnswersSection = ENGLISH) -> Verdict:
    """The probabilities of the words for yes and no as a verdict. Errors: ModelError where they are NaN."""
    p_yes, p_no = (sum(probabilities[word] for word in words) for words in (answers.yes, answers.no))
    verdict = Verdict(p_yes, p_no)
    if not math.isfinite(verdict.p_yes + verdict.p_no):
        raise ModelError(
            "the labeler's log-probabilities are NaN, not numbers; set labeler.dtype to float32, or use another labeler"
        )
    return verdict
