"""Pairs that share their beginning and differ in the first wrong sentence, as in SENTINEL (arXiv 2507.12455).

    The picture shows a park. Two dogs play. [A man throws a ball.]     rejected: the first sentence with a false claim
    The picture shows a park. Two dogs play. [A tree stands behind.]    chosen: all claims are accepted so far

Both answers end after the sentence in which they differ. Both are beginnings of responses that the policy itself wrote:
nothing is put together from several responses, so a pair needs two responses with literally the same beginning.
SENTINEL samples several continuations of one beginning instead, for which the policy has to be asked again.

An end within an answer is not learned: DPO leaves out the end token (`rlaif.storage.tables.answers_are_cut`). The
shared beginning has the same probability on both sides, so it has no effect on losses of their difference.

A claim belongs to the sentence with most of its content words. Where two sentences have as many, the claim is doubtful
in both: neither sentence is the first wrong one, nor true, unless the claim is accepted.

| reason              | dropped row | because                                                                       |
|---------------------|-------------|-------------------------------------------------------------------------------|
| equal_text          | response    | another response of its prompt has the same text                              |
| single_response     | prompt      | fewer than two distinct scored responses remain                               |
| no_false_sentence   | prompt      | no response has a sentence of which it is certain that it is the first wrong  |
| no_shared_beginning | prompt      | no response goes on truly after the beginning of one with a false sentence    |
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from feedback.check.form import sentence_spans
from feedback.pair import Drop, Pair, Scored, drop_equal_texts, pick
from rlaif.text import content_words, words


@dataclass(frozen=True)
class VerifiedClaim:
    """A claim of a response; accepted: None if it has no verdict."""

    text: str
    accepted: bool | None


@dataclass(frozen=True)
class Response:
    """A scored response with its claims."""

    scored: Scored
    claims: Sequence[VerifiedClaim]


@dataclass(frozen=True)
class Cut(Scored):
    """The beginning of a response up to the sentence in which a pair differs; its score is minus its rejected claims.

    claims: indices of those that belong to it, among the claims of the response.
    """

    claims: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sentences:
    """The sentences of a response: their spans, and the claims that belong to each, for certain and perhaps."""

    spans: list[tuple[int, int]]
    certain: list[set[int]]
    possible: list[set[int]]


def build_first_differences(
    prompt_id: str, responses: Sequence[Response], *, limit: int, seed: int, surplus: int | None = None
) -> tuple[list[Pair], list[Drop]]:
    """At most `limit` pairs of two `Cut` of the K responses to one prompt, and what was dropped.

    surplus: as in `feedback.pair.build_pairs`.
    """
    kept, drops = drop_equal_texts([response.scored for response in responses])
    if len(kept) < 2:
        return [], [*drops, Drop(prompt_id, "single_response", f"{len(kept)} distinct scored responses")]
    distinct = [index for index, response in enumerate(responses) if response.scored in kept]
    divided = {index: divide_into_sentences(responses[index]) for index in distinct}
    pairs: dict[tuple[str, str], Pair] = {}
    false = 0
    for low in distinct:
        sentence = first_false(responses[low].claims, divided[low])
        if sentence is None:
            continue
        false += 1
        start = divided[low].spans[sentence][0]
        rejected = cut(responses[low], divided[low], sentence)
        for high in distinct:
            if responses[high].scored.text[:start] != responses[low].scored.text[:start]:
                continue
            if is_true_until(responses[high].claims, divided[high], sentence, start):
                chosen = cut(responses[high], divided[high], sentence)
                pairs.setdefault((chosen.text, rejected.text), Pair(chosen, rejected))
    if not pairs:
        reason = "no_shared_beginning" if false else "no_false_sentence"
        detail = f"{false} of {len(distinct)} responses have a sentence that is certainly the first wrong one"
        return [], [*drops, Drop(prompt_id, reason, detail)]
    found = list(pairs.values())
    random.Random(seed).shuffle(found)
    cuts = list(dict.fromkeys(side for pair in found for side in (pair.chosen, pair.rejected)))
    index_of = {side: index for index, side in enumerate(cuts)}
    lengths = None if surplus is None else [len(words(side.text)) for side in cuts]
    picked = pick([(index_of[pair.chosen], index_of[pair.rejected]) for pair in found], limit, lengths, surplus or 0)
    return [Pair(cuts[high], cuts[low]) for high, low in picked], drops


def divide_into_sentences(response: Response) -> Sentences:
    """The sentences of a response, each with its claims."""
    spans = sentence_spans(response.scored.text)
    vocabularies = [set(content_words(response.scored.text[start:end])) for start, end in spans]
    certain: list[set[int]] = [set() for _ in spans]
    possible: list[set[int]] = [set() for _ in spans]
    for index, claim in enumerate(response.claims):
        best = best_matches(set(content_words(claim.text)), vocabularies)
        for sentence in best:
            possible[sentence].add(index)
        if len(best) == 1:
            certain[best[0]].add(index)
    return Sentences(spans, certain, possible)


def best_matches(claim: set[str], sentences: Sequence[set[str]]) -> list[int]:
    """The sentences with the largest share of a claim's words, and among them of the fewest other words; all sentences
    if none has any.
    """
    likeness = [(len(claim & sentence), -len(sentence - claim)) for sentence in sentences]
    if not any(shared for shared, _ in likeness):
        return list(range(len(sentences)))
    return [index for index, value in enumerate(likeness) if value == max(likeness)]


def first_false(claims: Sequence[VerifiedClaim], sentences: Sentences) -> int | None:
    """The first wrong sentence: it has a rejected claim for certain, and none before may have one without a yes."""
    for index, possible in enumerate(sentences.possible):
        if any(not claims[claim].accepted for claim in possible):
            return index if any(claims[claim].accepted is False for claim in sentences.certain[index]) else None
    return None


def is_true_until(claims: Sequence[VerifiedClaim], sentences: Sentences, last: int, start: int) -> bool:
    """Whether the sentence number `last` begins at `start` and has a claim, and all claims up to it are accepted."""
    if last >= len(sentences.spans) or sentences.spans[last][0] != start or not sentences.certain[last]:
        return False
    return all(claims[claim].accepted for possible in sentences.possible[: last + 1] for claim in possible)


def cut(response: Response, sentences: Sentences, last: int) -> Cut:
    """The response up to the end of its sentence number `last`."""
    claims = sorted({claim for certain in sentences.certain[: last + 1] for claim in certain})
    rejected = sum(response.claims[claim].accepted is False for claim in claims)
    text = response.scored.text[: sentences.spans[last][1]]
    return Cut(response.scored.response_id, text, float(-rejected), claims=tuple(claims))
