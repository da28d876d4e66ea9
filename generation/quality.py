"""Whether a rewritten caption is kept: pure rules over the raw caption, the new one and its fluency.

The limits are those of the configuration's section `rewrite`; the first rule that is broken gives the reason:

| reason          | the new caption                                                                               |
|-----------------|-----------------------------------------------------------------------------------------------|
| no_description  | is empty: the rewriter found nothing to go by                                                   |
| too_short       | has fewer words than `min_words`, or than `min_length_ratio` a word of the raw caption          |
| too_long        | has more words than `max_words`, or than `max_length_ratio` a word of the raw caption           |
| repetition      | says four words in a row again: a larger share of such sequences came before than allowed       |
| invented        | has content words that the raw caption has in no spelling: a larger share than allowed          |
| not_fluent      | has a lower mean log-probability a token, under the rewriter, than `min_fluency`                |
"""

from dataclasses import dataclass

from rlaif.config import RewriteSection
from rlaif.text import content_words, words

SEQUENCE = 4  # words


@dataclass(frozen=True)
class Fault:
    """Why a new caption is not kept."""

    reason: str
    detail: str


def repetition(text: str) -> float:
    """Share of the sequences of four words that came before in the text; 0.0 for a text with less than two."""
    found = words(text)
    sequences = list(zip(*(found[start:] for start in range(SEQUENCE)), strict=False))
    return 1 - len(set(sequences)) / len(sequences) if sequences else 0.0


def edits_per_character(one: str, other: str) -> int:
    """Letters added, lost, changed, or swapped with a neighbour between two spellings (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        before, last, row = row, before, [i]
        for j, another in enumerate(other, start=1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != another)))
            if i > 1 and j > 1 and letter == other[j - 2] and another == one[i - 2]:
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]


def invented_words(caption: str, raw: str, max_edits_per_character: float) -> list[str]:
    """The content words of `caption` that `raw` has in no spelling, in order.

    A word is there if it is part of a word of `raw` (spaces get lost on the web), or is another spelling of one, with
    at most `max_edits_per_character` edits per character.
    """
    there = set(content_words(raw))

    def is_there(word: str) -> bool:
        if word in there or (len(word) > 2 and any(word in other for other in there)):
            return True
        most = int(max_edits_per_character * len(word))
        return any(abs(len(word) - len(other)) <= most and edits_per_character(word, other) <= most for other in there)

    return [word for word in content_words(caption) if not is_there(word)]


def share_invented(caption: str, raw: str, max_edits_per_character: float) -> float:
    """Share of the content words of `caption` that `raw` has in no spelling; 0.0 for a caption without any."""
    return len(invented_words(caption, raw, max_edits_per_character)) / max(1, len(content_words(caption)))


def find_fault(raw: str, caption: str, fluency: float, rules: RewriteSection) -> Fault | None:
    """The first rule that a new caption breaks (reasons: see the top of this file); None: it is kept.

    fluency: mean log-probability of its tokens.
    """
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
