"""Pair: a response of a prompt against one with a lower score. Pure: rows, rule and seed in; pairs and drops out.

Pairs are sampled, not chosen by margin: RLAIF-V draws at most two per prompt (arXiv 2405.17220); here with a seed.
Two rules precede chance: a response is not reused on the same side while other pairs remain, and, with
`balance_length`, chosen and rejected answers keep the same mean length.

| reason            | dropped row | because                                                     |
|-------------------|-------------|-------------------------------------------------------------|
| equal_text        | response    | another response of its prompt has the same text            |
| single_response   | prompt      | fewer than two distinct scored responses remain             |
| all_scores_equal  | prompt      | no response scores higher than another (by min_margin)      |
| order_uncertain   | prompt      | none does whatever is true of the claims that are unknown   |
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rlaif.text import words


@dataclass(frozen=True)
class Scored:
    """A scored response, as the pair builder needs it.

    bounds: the lowest and highest score that its unknown claims allow; None: the score is certain.
    """

    response_id: str
    text: str
    score: float
    bounds: tuple[float, float] | None = None

    @property
    def low(self) -> float:
        return self.score if self.bounds is None else self.bounds[0]

    @property
    def high(self) -> float:
        return self.score if self.bounds is None else self.bounds[1]


@dataclass(frozen=True)
class Pair:
    chosen: Scored
    rejected: Scored


@dataclass(frozen=True)
class Drop:
    """A row of `dropped`."""

    row_id: str
    reason: str
    detail: str


def build_pairs(
    prompt_id: str,
    responses: Sequence[Scored],
    *,
    limit: int,
    seed: int,
    surplus: int | None = None,
    min_margin: float = 0.0,
) -> tuple[list[Pair], list[Drop]]:
    """At most `limit` pairs of the K responses to one prompt, and what was dropped. Takes O(K^2) time per prompt.

    `min_margin`: least difference of scores within a pair; equal scores never make one. Both hold of the lowest score
    of the chosen response and the highest of the rejected one.

    `surplus`: words of all chosen answers so far minus words of all rejected ones. Each pick is then the pair that
    brings |surplus + words(chosen) - words(rejected)| closest to 0, so that the mean lengths of both sides stay equal.
    None: lengths do not matter.
    """
    distinct, drops = drop_equal_texts(responses)
    if len(distinct) < 2:
        return [], [*drops, Drop(prompt_id, "single_response", f"{len(distinct)} distinct scored responses")]
    indices = range(len(distinct))
    candidates = [
        (high, low)
        for high in indices
        for low in indices
        if _is_above(distinct[high].low, distinct[low].high, min_margin)
    ]
    if not candidates:
        scores = sorted({response.score for response in distinct})
        detail = f"{len(distinct)} responses score {scores[0]:g}" + (f" to {scores[-1]:g}" if scores[1:] else "")
        if not _is_above(scores[-1], scores[0], min_margin):
            return [], [*drops, Drop(prompt_id, "all_scores_equal", detail)]
        low, high = min(response.low for response in distinct), max(response.high for response in distinct)
        detail += f", with their unknown claims {low:g} to {high:g}"
        return [], [*drops, Drop(prompt_id, "order_uncertain", detail)]
    random.Random(seed).shuffle(candidates)
    lengths = None if surplus is None else [len(words(response.text)) for response in distinct]
    picked = pick(candidates, limit, lengths, surplus or 0)
    return [Pair(distinct[high], distinct[low]) for high, low in picked], drops


def _is_above(high: float, low: float, min_margin: float) -> bool:
    return high > low and high - low >= min_margin


def drop_equal_texts(responses: Sequence[Scored]) -> tuple[list[Scored], list[Drop]]:
    first: dict[str, Scored] = {}
    drops = []
    for response in responses:
        kept = first.setdefault(" ".join(response.text.split()), response)
        if kept is not response:
            drops.append(Drop(response.response_id, "equal_text", f"same text as {kept.response_id}"))
    return list(first.values()), drops


def pick(
    candidates: list[tuple[int, int]], limit: int, lengths: Sequence[int] | None, surplus: int
) -> list[tuple[int, int]]:
    """Repeatedly the first candidate with the least reuse of its responses, then the least imbalance of lengths.

    candidates: (chosen, rejected), indices of responses. lengths: words of each response; None: they do not matter.
    """
    as_chosen: Counter[int] = Counter()
    as_rejected: Counter[int] = Counter()

    def cost(pair: tuple[int, int]) -> tuple[int, int]:
        chosen, rejected = pair
        imbalance = abs(surplus + lengths[chosen] - lengths[rejected]) if lengths else 0
        return as_chosen[chosen] + as_rejected[rejected], imbalance

    picked: list[tuple[int, int]] = []
    while candidates and len(picked) < limit:
        best = chosen, rejected = min(candidates, key=cost)
        candidates.remove(best)
        picked.append(best)
        as_chosen[chosen] += 1
        as_rejected[rejected] += 1
        if lengths:
            surplus += lengths[chosen] - lengths[rejected]
    return picked
