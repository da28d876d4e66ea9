"""Does a question ask exactly its claim?"""

from collections.abc import Sequence

from feedback.check.form import is_unfit
from feedback.check.source import Source, has_word, properties_of
from feedback.check.terms import ONE, Sentence, Term, sentences
from rlaif.text import words

_PRONOUNS = frozenset(
    (
        "it",
        "they",
        "he",
        "she",
        "this",
        "that",
        "these",
        "those",
        "es",
        "er",
        "sie",
        "dies",
        "它",
        "他",
        "她",
    )
)


def question_problem(claim: str, terms: Sequence[Term], question: str, source: Source) -> str:
    """Why the question is not the claim's own; "" if it is."""
    if is_unfit(question) or not words(question):
        return "unfit_question"
    parts = sentences(question, source.language)
    wanted, got = _sequence(terms), _sequence([term for part in parts for term in part.terms])
    if _equal(wanted, got):
        return ""
    added = _without(got, wanted)
    if _without(wanted, got) or (added and not _resolves_pronoun(claim, wanted, added, source)):
        return "mismatched_question"
    if added or _is_inverted(wanted, got) or _is_other_voice(claim, wanted, question, got, source):
        return ""
    return "" if _has_same_properties(sentences(claim, source.language), parts) else "reordered_question"


def _sequence(terms: Sequence[Term]) -> list[Term]:
    return [term for term in terms if ONE not in term.ids]


def _equal(first: Sequence[Term], second: Sequence[Term]) -> bool:
    return len(first) == len(second) and all(a.equals(b) for a, b in zip(first, second, strict=True))


def _without(first: Sequence[Term], second: Sequence[Term]) -> list[Term]:
    """The terms of `first` that `second` lacks, each counted as often as it occurs."""
    left = list(second)
    missing = []
    for term in first:
        match = next((other for other in left if term.equals(other)), None)
        if match is None:
            missing.append(term)
        else:
            left.remove(match)
    return missing


def _resolves_pronoun(claim: str, wanted: Sequence[Term], added: Sequence[Term], source: Source) -> bool:
    """Whether the question only names what a pronoun of the claim stands for: "It is red." | "Is the bus red?"."""
    has_pronoun = not _PRONOUNS.isdisjoint(words(claim))
    return has_pronoun and len(added) == 1 and added[0].role == "content" and source.says(added[0], False)


def _is_inverted(wanted: Sequence[Term], got: Sequence[Term]) -> bool:
    """Whether the question differs only by the verb at its beginning, as in German: "Liegt der Hund im Gras?"."""
    if not got or got[0].start > 0:
        return False
    verb = next((term for term in wanted if term.equals(got[0])), None)
    return verb is not None and _equal([term for term in wanted if term is not verb], got[1:])


def _is_other_voice(claim: str, wanted: Sequence[Term], question: str, got: Sequence[Term], source: Source) -> bool:
    """Whether the question is the claim in the passive, or the other way round: the ends are exchanged."""
    voices = {
        any(has_word(part, "passive", source.language) for part in sentences(text, source.language))
        for text in (claim, question)
    }
    facts = [[term for term in terms if term.role == "content"] for terms in (wanted, got)]
    return len(voices) == 2 and _equal(facts[0], facts[1][::-1])


def _has_same_properties(claim: Sequence[Sentence], question: Sequence[Sentence]) -> bool:
    """Whether only properties stand elsewhere, with the same nouns: "The hat is red." | "Is it a red hat?"."""
    rest = [[t for part in text for t in part.terms if t.role != "attribute"] for text in (claim, question)]
    if not _equal(_sequence(rest[0]), _sequence(rest[1])):
        return False
    first, second = (
        [p for part in text for p in properties_of(part) if ONE not in p[0].ids] for text in (claim, question)
    )
    shared = [value for value, noun, _ in first if any(value.equals(v) and noun.equals(n) for v, n, _ in second)]
    return all(value in shared for value, *_ in first)
