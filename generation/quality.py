"""Rules that decide whether a rewritten caption is kept. Pure: raw caption, new caption and fluency in.

The configuration's section `rewrite` has the limits; the first rule that fails gives the reason:

| reason          | the new caption                                                                               |
|-----------------|-----------------------------------------------------------------------------------------------|
| no_description  | is empty: the raw caption describes nothing                                                     |
| too_short       | has fewer words than `min_words`, or than `min_length_ratio` times those of the raw caption     |
| too_long        | has more words than `max_words`, or than `max_length_ratio` times those of the raw caption      |
| repetition      | repeats itself: the share of repeated four-word sequences exceeds `max_repetition`              |
| invented        | invents: the share of content words that the raw caption lacks exceeds `max_invented`           |
| not_fluent      | has a mean token log-probability, under the rewriter, below `min_fluency`                       |
"""

from dataclasses import dataclass

from rlaif.config import RewriteSection
from rlaif.text import content_words, words

SEQUENCE_WORDS = 4


@dataclass(frozen=True)
class Fault:
    """Why a new caption is dropped."""

    reason: str
    detail: str


def repetition(text: str) -> float:
    """Share of four-word sequences that occur earlier in the text; 0.0 for a text with fewer than two."""
    all_words = words(text)
    sequences = list(zip(*(all_words[start:] for start in range(SEQUENCE_WORDS)), strict=False))
    return 1 - len(set(sequences)) / len(sequences) if sequences else 0.0


def edit_distance(word: str, other: str) -> int:
    """Insertions, deletions, substitutions and swaps of neighbors between two words (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(word, start=1):
        before, last, row = row, before, [i]
        for j, another in enumerate(other, start=1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != another)))
            if i > 1 and j > 1 and letter == other[j - 2] and another == word[i - 2]:
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]


def invented_words(caption: str, raw: str, max_edits_per_character: float) -> list[str]:
    """The content words of `caption` that `raw` does not have, in order.

    `raw` has a word if it contains it, also inside another word (web captions lose spaces), or in another spelling,
    with at most `max_edits_per_character` edits per character.
    """
    raw_words = set(content_words(raw))

    def is_in_raw(word: str) -> bool:
        if word in raw_words or (len(word) > 2 and any(word in other for other in raw_words)):
            return True
        most = int(max_edits_per_character * len(word))
        return any(abs(len(word) - len(other)) <= most and edit_distance(word, other) <= most for other in raw_words)

    return [word for word in content_words(caption) if not is_in_raw(word)]


def share_invented(caption: str, raw: str, max_edits_per_character: float) -> float:
    """Share of the content words of `caption` that `raw` does not have; 0.0 for a caption without content words."""
    return len(invented_words(caption, raw, max_edits_per_character)) / max(1, len(content_words(caption)))


def find_fault(raw: str, caption: str, fluency: float, rules: RewriteSection) -> Fault | None:
    """The first rule that a new caption fails; None: it is kept. fluency: mean log-probability of its tokens."""
    length, raw_length = len(words(caption)), len(words(raw))
    if not length:
        return Fault("no_description", raw)
    if length < max(rules.min_words, rules.min_length_ratio * raw_length):
        return Fault("too_short", f"{length} words for {raw_length}: {caption}")
    if length > min(rules.max_words, rules.max_length_ratio * raw_length):
        return Fault("too_long", f"{length} words for {raw_length}: {caption}")
    if (repeated := repetition(caption)) > rules.max_repetition:
        return Fault("repetition", f"{repeated:.2f}: {caption}")
    if share_invented(caption, raw, rules.max_edits_per_character) > rules.max_invented:
        unknown = ", ".join(invented_words(caption, raw, rules.max_edits_per_character))
        return Fault("invented", f"{unknown}: {caption}")
    if fluency < rules.min_fluency:
        return Fault("not_fluent", f"{fluency:.2f}: {caption}")
    return None
