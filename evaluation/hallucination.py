"""Hallucination of answers against known truth, and the quality of the labeler that judged them. Pure functions.

Notable choices:
- object hallucination follows CHAIR (Rohrbach et al. 2018, arXiv 1809.02156) as Object HalBench reports it (RLHF-V,
  arXiv 2312.00849; RLAIF-V, arXiv 2405.17220): mention level beside response level, with recall and length always
  next to them, because silence games the rates;
- a ratio whose denominator is zero is None, never 0: a policy that says nothing has no hallucination rate;
- where an answer says the same thing twice it has made two mentions, as in CHAIR; the labeler splits it into one claim;
- figures are made of sums of counts, which `evaluation.statistics` draws again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.statistics import Counts, Figures, ratio, total
from rlaif.text import words
from scenes.language import Mention, find_mentions, mention_is_true


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


def answer_counts(answer: Judged) -> Counts:
    """What one answer adds to the sums behind `hallucination`."""
    return Counter(
        answers=1,
        words=answer.words,
        mentions=answer.mentions,
        hallucinated=answer.hallucinated,
        mentioning=int(answer.mentions > 0),
        hallucinating=int(answer.hallucinated > 0),
        found=answer.found,
        objects=answer.objects,
    )


def hallucination_of(totals: Counts) -> Figures:
    """The five figures of a set of answers, from the sums of their `answer_counts`.

    - mention_rate: hallucinated mentions / all mentions (CHAIR_i);
    - response_rate: answers with at least one hallucinated mention / answers that mention any object (CHAIR_s);
    - recall: true objects found / true objects, summed over all answers;
    - mean_words: words (as `rlaif.text` counts them) per answer;
    - responses: answers counted.
    """
    return {
        "mention_rate": ratio(totals["hallucinated"], totals["mentions"]),
        "response_rate": ratio(totals["hallucinating"], totals["mentioning"]),
        "recall": ratio(totals["found"], totals["objects"]),
        "mean_words": ratio(totals["words"], totals["answers"]),
        "responses": totals["answers"],
    }


def hallucination(judged: Sequence[Judged]) -> Figures:
    """The figures of `hallucination_of` for these answers."""
    return hallucination_of(total(answer_counts(answer) for answer in judged))


def change(before: Figures, after: Figures) -> Figures:
    """How far the figures moved: rates and means relative to before (-0.5: halved), recall in points. Counts do not.

    None where a figure is None, or was 0 and has nothing to be relative to.
    """
    moved: Figures = {}
    for name, old in before.items():
        new = after.get(name)
        if isinstance(old, int):
            continue
        if old is None or new is None:
            moved[name] = None
        else:
            moved[name] = new - old if name == "recall" else ratio(new - old, old)
    return moved


def claim_truth(claim: str, objects: Sequence[Any]) -> bool | None:
    """Whether a claim holds of the image; None where it does not make exactly one mention and so cannot be checked."""
    mentions = find_mentions(claim)
    return mention_is_true(mentions[0], objects) if len(mentions) == 1 else None


def claim_counts(verdict: bool, truth: bool | None) -> Counts:
    """What one judged claim adds to the sums behind `claim_quality`; truth: as `claim_truth` gives it."""
    return Counter(
        claims=1,
        claims_true=int(truth is True),
        claims_false=int(truth is False),
        true_rejected=int(truth is True and not verdict),
        false_accepted=int(truth is False and verdict),
    )


def claim_quality(totals: Counts) -> Figures:
    """How often the labeler's verdict on a claim is right, from the sums of `claim_counts`.

    - claim_accuracy: verdicts equal to the truth / all claims; an unreadable claim (truth None) is counted as wrong;
    - false_claims_accepted, true_claims_rejected: the two ways of being wrong, each of the false, the true claims;
    - claims, claims_unreadable: counts.
    """
    readable = totals["claims_true"] + totals["claims_false"]
    return {
        "claim_accuracy": ratio(readable - totals["true_rejected"] - totals["false_accepted"], totals["claims"]),
        "false_claims_accepted": ratio(totals["false_accepted"], totals["claims_false"]),
        "true_claims_rejected": ratio(totals["true_rejected"], totals["claims_true"]),
        "claims": totals["claims"],
        "claims_unreadable": totals["claims"] - readable,
    }


def split_is_right(text: str, claims: Sequence[str]) -> bool:
    """Whether the claims are those of the response: none lost, none invented, none twice, one mention in each."""
    found = [find_mentions(claim) for claim in claims]
    if any(len(mentions) != 1 for mentions in found):
        return False
    wanted: set[Mention] = set(find_mentions(text))
    return Counter(mentions[0] for mentions in found) == Counter(wanted)


def pair_counts(pair: tuple[str, str], false_mentions: Mapping[str, int], kind: str) -> Counts:
    """What one pair adds to the sums behind `pair_agreement`; `kind` keeps pairs of several origins apart.

    pair: (chosen_response_id, rejected_response_id); false_mentions: hallucinated mentions per response id.
    """
    difference = false_mentions[pair[0]] - false_mentions[pair[1]]
    return Counter({f"{kind} pairs": 1, f"{kind} agree": int(difference < 0), f"{kind} ties": int(difference == 0)})


def pair_agreement(totals: Counts, kind: str) -> Figures:
    """How often the order of a pair agrees with the truth, from the sums of `pair_counts` of that kind.

    - agreement: pairs whose chosen response has strictly fewer false mentions than the rejected one / all pairs;
    - ties: pairs with equally many, which count as disagreement / all pairs;
    - pairs: pairs counted.
    """
    pairs = totals[f"{kind} pairs"]
    return {
        "agreement": ratio(totals[f"{kind} agree"], pairs),
        "ties": ratio(totals[f"{kind} ties"], pairs),
        "pairs": pairs,
    }


def reordered(pairs: Sequence[tuple[str, str]], scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The same pairs in the order that another score gives them; pairs on which that score is equal are left out."""
    turned = [(first, second) if scores[first] > scores[second] else (second, first) for first, second in pairs]
    return [(chosen, rejected) for chosen, rejected in turned if scores[chosen] != scores[rejected]]
