"""Finds where in a response its claims stand.

A claim belongs to the sentence with most of its words, as the pair rule `first_difference` finds it, and there to the
part between commas that has all of the words that the sentence shares with it. Where several sentences fit equally
well, or none has half of its words, it is not placed: nothing is guessed. In Chinese two characters count as a word.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from feedback.check.form import sentence_spans
from feedback.first_difference import best_matches
from rlaif.text import content_words, is_unspaced

LEAST_SHARE = 0.5  # of a claim's words that its place must have
_SEPARATOR = re.compile(
    r"[,;:\u3001\uff0c\uff1b\uff1a]?\s(?:and|but|while|whereas|und|et|y)\s|[,;:]\s|[\u3001\uff0c\uff1b\uff1a]",
    re.IGNORECASE,
)
Span = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """A piece of a text. claims: the indices of those that stand in it; ends: of those whose place ends with it."""

    text: str
    claims: tuple[int, ...]
    ends: tuple[int, ...]


def place(text: str, claims: Sequence[str]) -> list[Span | None]:
    """(start, end) of each claim in the text; None where its place is not certain."""
    sentences = sentence_spans(text)
    vocabularies = [_terms(text[start:end]) for start, end in sentences]
    return [_place(text, _terms(claim), sentences, vocabularies) for claim in claims]


def _terms(text: str) -> set[str]:
    """The content words of a text; of Chinese and other scripts without spaces pairs of neighbors, because characters
    such as those for "on" and "there is" stand in every sentence.
    """
    found = content_words(text)
    spaced = {word for word in found if not is_unspaced(word)}
    return spaced | {first + second for first, second in pairwise(found) if is_unspaced(first) and is_unspaced(second)}


def _place(text: str, claim: set[str], sentences: Sequence[Span], vocabularies: Sequence[set[str]]) -> Span | None:
    best = best_matches(claim, vocabularies) if claim else []
    if len(best) != 1:
        return None
    shared = claim & vocabularies[best[0]]
    if len(shared) < LEAST_SHARE * len(claim):
        return None
    parts = part_spans(text, sentences[best[0]])
    words = [_terms(text[start:end]) for start, end in parts]
    closest = best_matches(claim, words)
    complete = len(closest) == 1 and shared <= words[closest[0]]
    return parts[closest[0]] if complete else sentences[best[0]]


def part_spans(text: str, sentence: Span) -> list[Span]:
    """The parts of a sentence between commas, semicolons, colons and words such as `and`, without space around."""
    separators = [match.span() for match in _SEPARATOR.finditer(text, *sentence)]
    starts, ends = [sentence[0], *(end for _, end in separators)], [*(start for start, _ in separators), sentence[1]]
    parts = []
    for start, end in zip(starts, ends, strict=True):
        if part := text[start:end].strip():
            start += text[start:end].index(part)
            parts.append((start, start + len(part)))
    return parts


def pieces(text: str, spans: Sequence[Span | None]) -> list[Piece]:
    """The text cut at the ends of all spans, which may overlap; joined, the pieces are the text."""
    placed = [(index, span) for index, span in enumerate(spans) if span is not None]
    cuts = sorted({0, len(text), *(bound for _, span in placed for bound in span)})
    return [
        Piece(
            text[start:end],
            tuple(index for index, (first, last) in placed if first <= start and end <= last),
            tuple(index for index, (_, last) in placed if last == end),
        )
        for start, end in pairwise(cuts)
    ]
