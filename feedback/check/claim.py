"""Check a claim against the response that it was taken from, and its question against the claim.

| outcome  | the labeler gets                                                              |
|----------|-------------------------------------------------------------------------------|
| asked    | the claim's question                                                          |
| restated | the claim itself, as a statement: its question asks something else            |
| unknown  | nothing: the response does not make the claim, or it may not be put to a model |

| reason             | outcome  |                                                                               |
|--------------------|----------|-------------------------------------------------------------------------------|
| unfit_claim        | unknown  | several sentences, or it dictates an answer, or nothing in it can be checked  |
| invented_claim     | unknown  | has a word that the response lacks, and no other form or synonym of it        |
| contradicted_claim | unknown  | the response says the opposite, another color, number or place, or the other  |
|                    |          | way round who does it to whom                                                 |
| mismatched_question | restated | has other words than the claim                                               |
| reordered_question | restated | has the words of the claim in another order: who does what may have changed   |
| unfit_question     | restated | several sentences, or it dictates an answer                                   |

A question is cheap to replace by its claim, so it is asked only if it is surely the claim's own. A claim that is lost
costs knowledge, and one that the response does not make is noise: a word counts as said if the response or the
instruction has it, another form of it, a synonym, or something that it is a kind of ("person" for "boy"). In a
language without a lexicon half of the words must be said.
"""

from dataclasses import dataclass
from typing import Literal

from feedback.check.contradiction import FACTS, contradicts
from feedback.check.form import is_unfit
from feedback.check.question import question_problem
from feedback.check.source import Source
from feedback.check.terms import ONE, sentences

__all__ = ["Finding", "Outcome", "Source", "check_claim"]

Outcome = Literal["asked", "restated", "unknown"]


@dataclass(frozen=True)
class Finding:
    """claim: is it in the response? "unclear" where words cannot tell. question: does it ask exactly the claim?

    outcome: what words alone decide. reason: "" for a claim that is asked. Both as in the tables above.
    """

    claim: Literal["said", "unclear", "not_said"]
    question: Literal["own", "other"]
    outcome: Outcome
    reason: str = ""


def check_claim(claim: str, question: str, source: Source) -> Finding:
    """Compare a claim with its source and a question with its claim."""
    parts = sentences(claim, source.language)
    terms = [term for part in parts for term in part.terms]
    if is_unfit(claim) or not parts:
        return Finding("not_said", "other", "unknown", "unfit_claim")
    problem = question_problem(claim, terms, question, source)
    own: Literal["own", "other"] = "other" if problem else "own"
    facts = [term for term in terms if term.role in FACTS and ONE not in term.ids]
    invented = [term for term in facts if not source.says(term, False) and not source.says(term, True)]
    if invented and (source.language or len(invented) * 2 > len(facts)):
        contradicted = any(term.excludes(other) for term in invented for other in source.terms)
        return Finding("not_said" if contradicted else "unclear", own, "unknown", "invented_claim")
    if contradicts(parts, source):
        return Finding("not_said", own, "unknown", "contradicted_claim")
    return Finding("said", own, "restated" if problem else "asked", problem)
