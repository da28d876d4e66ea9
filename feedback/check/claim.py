"""Check a claim against the response that it was taken from, and its question against the claim.

| outcome  | the labeler gets                                                            |
|----------|-----------------------------------------------------------------------------|
| asked    | the claim's question                                                        |
| restated | the claim itself, as a statement: its question asks something else          |
| unknown  | nothing: the response does not make the claim, or it may not be put to a model |
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from feedback.check.form import is_unfit
from rlaif.text import content_words, share_in, words

Outcome = Literal["asked", "restated", "unknown"]


@dataclass(frozen=True)
class Finding:
    """claim: is it in the response? "unclear" where words cannot tell. question: does it ask exactly the claim?

    reason: "" for a claim that is asked. outcome: what words alone decide, see the table above.
    """

    claim: Literal["said", "unclear", "not_said"]
    question: Literal["own", "other"]
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class Source:
    """A response and the instruction that it answers: the words of both count as said."""

    instruction: str
    response: str

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(content_words(f"{self.instruction} {self.response}"))


def check_claim(claim: str, question: str, source: Source) -> Finding:
    """Compare a claim with its source and a question with its claim. Both as the model wrote them, line breaks too."""
    if share_in(claim, set(source.words)) < 0.5:
        return Finding("not_said", "other", "unknown", "invented_claim")
    claim_words, question_words = set(content_words(claim)), set(content_words(question))
    added, missing = question_words - claim_words, claim_words - question_words
    swapped = not source.words.isdisjoint(added) and not source.words.isdisjoint(missing)
    if swapped or share_in(question, claim_words) < 0.5:
        reason = "mismatched_question"
    elif is_unfit(question) or not words(question):
        reason = "unfit_question"
    else:
        return Finding("said", "own", "asked")
    return (
        Finding("said", "other", "unknown", "unfit_claim")
        if is_unfit(claim)
        else Finding("said", "other", "restated", reason)
    )
