"""Hallucination of answers against known truth, and the quality of the labeler that judged them. Pure functions.

Notable choices:
- object hallucination follows CHAIR (Rohrbach et al. 2018, arXiv 1809.02156) as Object HalBench reports it (RLHF-V,
  arXiv 2312.00849; RLAIF-V, arXiv 2405.17220): mention level beside response level, with recall and length always
  next to them, because silence games the rates;
- a ratio whose denominator is zero is None, never 0: a policy that says nothing has no hallucination rate;
- where an answer says the same thing twice it has made two mentions, as in CHAIR; the labeler splits it into one claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.embedded.language import Mention, find_mentions, mention_is_true
from rlaif.words import words

Figures = dict[str, float | int | None]


@dataclass(frozen=True)
class Judged:
    """One answer held against the truth of its image; all fields are counts."""

    words: int
    mentions: int
    hallucinated: int  # mentions that are true of no object of the image
    found: int  # objects that at least one true mention refers to
    objects: int


def judge(text: str, objects: Sequence[Any] | None) -> Judged:
    """Count the mentions of `text` that are false, and the objects it found.

    objects: the true objects of the image (`reference["objects"]`); None where no truth is known: words alone count.
    An object is found if a mention is true of it; a mention that fits several objects ("a circle") finds each of them.
    """
    length = len(words(text))
    if objects is None:
        return Judged(length, mentions=0, hallucinated=0, found=0, objects=0)
    mentions = find_mentions(text)
    return Judged(
        words=length,
        mentions=len(mentions),
        hallucinated=sum(not mention_is_true(mention, objects) for mention in mentions),
        found=sum(any(mention_is_true(mention, [item]) for mention in mentions) for item in objects),
        objects=len(objects),
    )


def hallucination(judged: Sequence[Judged]) -> Figures:
    """The five figures of a set of answers.

    - mention_rate: hallucinated mentions / all mentions (CHAIR_i);
    - response_rate: answers with at least one hallucinated mention / answers that mention any object (CHAIR_s);
    - recall: true objects found / true objects, summed over all answers;
    - mean_words: words (as `rlaif.words` counts them) per answer;
    - responses: answers counted.
    """
    return {
        "mention_rate": _ratio(sum(item.hallucinated for item in judged), sum(item.mentions for item in judged)),
        "response_rate": _ratio(
            sum(item.hallucinated > 0 for item in judged), sum(item.mentions > 0 for item in judged)
        ),
        "recall": _ratio(sum(item.found for item in judged), sum(item.objects for item in judged)),
        "mean_words": _ratio(sum(item.words for item in judged), len(judged)),
        "responses": len(judged),
    }


def claim_truth(claim: str, objects: Sequence[Any]) -> bool | None:
    """Whether a claim holds of the image; None where it does not make exactly one mention and so cannot be checked."""
    mentions = find_mentions(claim)
    return mention_is_true(mentions[0], objects) if len(mentions) == 1 else None


def claim_quality(verdicts: Sequence[tuple[bool, bool | None]]) -> Figures:
    """How often the labeler's verdict on a claim is right.

    verdicts: (verdict, truth) per claim, truth as `claim_truth` gives it.
    - claim_accuracy: verdicts equal to the truth / all claims; an unreadable claim (truth None) is counted as wrong;
    - false_claims_accepted, true_claims_rejected: the two ways of being wrong, each of the false, the true claims;
    - claims, claims_unreadable: counts.
    """
    on_true = [verdict for verdict, truth in verdicts if truth is True]
    on_false = [verdict for verdict, truth in verdicts if truth is False]
    right = sum(on_true) + sum(not verdict for verdict in on_false)
    return {
        "claim_accuracy": _ratio(right, len(verdicts)),
        "false_claims_accepted": _ratio(sum(on_false), len(on_false)),
        "true_claims_rejected": _ratio(sum(not verdict for verdict in on_true), len(on_true)),
        "claims": len(verdicts),
        "claims_unreadable": len(verdicts) - len(on_true) - len(on_false),
    }


def split_is_right(text: str, claims: Sequence[str]) -> bool:
    """Whether the claims are those of the response: none lost, none invented, none twice, one mention in each."""
    found = [find_mentions(claim) for claim in claims]
    if any(len(mentions) != 1 for mentions in found):
        return False
    wanted: set[Mention] = set(find_mentions(text))
    return Counter(mentions[0] for mentions in found) == Counter(wanted)


def pair_agreement(pairs: Sequence[tuple[str, str]], false_mentions: Mapping[str, int]) -> Figures:
    """How often the order of a pair agrees with the truth.

    pairs: (chosen_response_id, rejected_response_id); false_mentions: hallucinated mentions per response id.
    - agreement: pairs whose chosen response has strictly fewer false mentions than the rejected one / all pairs;
    - ties: pairs with equally many, which count as disagreement / all pairs;
    - pairs: pairs counted.
    """
    differences = [false_mentions[chosen] - false_mentions[rejected] for chosen, rejected in pairs]
    return {
        "agreement": _ratio(sum(difference < 0 for difference in differences), len(pairs)),
        "ties": _ratio(sum(difference == 0 for difference in differences), len(pairs)),
        "pairs": len(pairs),
    }


def reordered(pairs: Sequence[tuple[str, str]], scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The same pairs in the order that another score gives them; pairs on which that score is equal are left out."""
    turned = [(first, second) if scores[first] > scores[second] else (second, first) for first, second in pairs]
    return [(chosen, rejected) for chosen, rejected in turned if scores[chosen] != scores[rejected]]


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None
