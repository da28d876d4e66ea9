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

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from feedback.check.form import is_unfit
from feedback.check.lexicon import lexicon
from feedback.check.terms import ONE, Sentence, Term, language_of, sentences
from rlaif.text import is_unspaced, words

Outcome = Literal["asked", "restated", "unknown"]
# A property and its noun ("head"), or a position and the noun after ("object") or before it ("subject").
Property = tuple[Term, Term, Literal["head", "object", "subject"]]

_FACTS = ("content", "attribute")
_PRONOUNS = frozenset(
    "it they he she this that these those es er sie dies \u5b83 \u4ed6 \u5979".split()  # noqa: SIM905
)
_ARTICLES = frozenset(
    "a an the his her its their this that ein eine einen einem einer der die das den dem sein seine ihr".split()  # noqa: SIM905
)
_FEW_WORDS = 4  # too few to recognize a language by
_REACH = 4  # terms between who and whom


@dataclass(frozen=True)
class Finding:
    """claim: is it in the response? "unclear" where words cannot tell. question: does it ask exactly the claim?

    outcome: what words alone decide. reason: "" for a claim that is asked. Both as in the tables above.
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
    def language(self) -> str:
        """Of the response, or of both texts if it is too short to tell; English if they are."""
        both = f"{self.instruction} {self.response}"
        return language_of(self.response) or language_of(both) or ("en" if len(words(both)) < _FEW_WORDS else "")

    @cached_property
    def answer(self) -> str:
        """ "yes" or "no" if the response begins with it, else ""."""
        for section in ("yes", "no"):
            for language in {self.language, "en"}:
                if _begins_with(section, language, self.response):
                    return section
        return ""

    @cached_property
    def instructed(self) -> tuple[Sentence, ...]:
        return sentences(self.instruction, self.language)

    @cached_property
    def said(self) -> tuple[Sentence, ...]:
        return sentences(self.response, self.language)

    @cached_property
    def sentences(self) -> tuple[Sentence, ...]:
        return (*self.instructed, *self.said)

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        return tuple(term for sentence in self.sentences for term in sentence.terms)

    @cached_property
    def ids(self) -> dict[bool, frozenset[str]]:
        """The ids of all terms, by whether they are negated."""
        return {
            negated: frozenset().union(*(term.ids for term in self.terms if term.negated == negated))
            for negated in (False, True)
        }

    def says(self, term: Term, negated: bool) -> bool:
        """Whether a term of the source with this polarity has the meaning of `term`."""
        if not term.ids.isdisjoint(self.ids[negated]):
            return True
        return any(term.covers(other) for other in self.terms if other.negated == negated)

    @cached_property
    def properties(self) -> tuple[Property, ...]:
        """Those of all sentences."""
        return tuple(pair for sentence in self.sentences for pair in _properties(sentence))


def check_claim(claim: str, question: str, source: Source) -> Finding:
    """Compare a claim with its source and a question with its claim."""
    parts = sentences(claim, source.language)
    terms = [term for part in parts for term in part.terms]
    if is_unfit(claim) or not parts:
        return Finding("not_said", "other", "unknown", "unfit_claim")
    problem = _question_problem(claim, terms, question, source)
    own: Literal["own", "other"] = "other" if problem else "own"
    facts = [term for term in terms if term.role in _FACTS and ONE not in term.ids]
    invented = [term for term in facts if not source.says(term, False) and not source.says(term, True)]
    if invented and (source.language or len(invented) * 2 > len(facts)):
        contradicted = any(term.excludes(other) for term in invented for other in source.terms)
        return Finding("not_said" if contradicted else "unclear", own, "unknown", "invented_claim")
    if _is_negated_otherwise(facts, source) or any(_contradicts(part, source) for part in parts):
        return Finding("not_said", own, "unknown", "contradicted_claim")
    return Finding("said", own, "restated" if problem else "asked", problem)


def _is_negated_otherwise(facts: Sequence[Term], source: Source) -> bool:
    """Whether the source has a word of the claim only with the opposite polarity.

    After "No.", the words of the instruction have either, but a claim of them alone must be negated.
    """
    if source.answer == "no" and not any(term.negated for term in facts):
        said = [term for part in source.said for term in part.terms if term.role in _FACTS]
        if not any(term.covers(other) for term in facts for other in said):
            return True
    for term in facts:
        if source.says(term, term.negated) or not source.says(term, not term.negated):
            continue
        asked = any(term.covers(other) for part in source.instructed for other in part.terms)
        if not (source.answer == "no" and asked):
            return True
    return False


def _contradicts(part: Sentence, source: Source) -> bool:
    """Whether the source gives a noun of the claim another property or place, or swaps who does what to whom."""
    for value, noun, side in _properties(part):
        others = [other for other, owner, where in source.properties if where == side and noun.equals(owner)]
        # A verb or noun has several places: "sits on a desk in front of a laptop" is no contradiction.
        if any(value.equals(other) for other in (source.terms if side == "subject" else others)):
            continue
        if any(value.excludes(other) for other in others):
            return True
    return any(_is_reversed(triple, part, source) for triple in _triples(part))


def _properties(sentence: Sentence) -> Iterator[Property]:
    for index, term in enumerate(sentence.terms):
        if term.role == "attribute" and (noun := sentence.head(index)):
            yield term, noun, "head"
        elif term.role == "position":
            if noun := sentence.object(index):
                yield term, noun, "object"
            if noun := sentence.subject(index):
                yield term, noun, "subject"


def _triples(sentence: Sentence) -> Iterator[tuple[Term, Term, Term]]:
    """(who, what, whom): consecutive terms, apart from properties, the last with an article or in Chinese."""
    terms = [term for term in sentence.terms if term.role in ("content", "position")]
    for who, what, whom in zip(terms, terms[1:], terms[2:], strict=False):
        gap = sentence.words[what.end : whom.start]
        has_article = not _ARTICLES.isdisjoint(gap) or is_unspaced(whom.text[0])
        if who.role == whom.role == "content" and not who.equals(whom) and has_article:
            yield who, what, whom


def _is_reversed(triple: tuple[Term, Term, Term], part: Sentence, source: Source) -> bool:
    """Whether the source has (whom, what, who) and nowhere (who, what, whom), a change to the passive aside."""
    if _has_word(part, "symmetric", source.language):
        return False
    turned = [sentence for sentence in source.sentences if _in_order(sentence, triple[::-1], reach=0)]
    if not turned or any(_in_order(sentence, triple, _REACH) for sentence in source.sentences):
        return False
    passive = _has_word(part, "passive", source.language)
    return any(_has_word(sentence, "passive", source.language) == passive for sentence in turned)


def _in_order(sentence: Sentence, triple: Sequence[Term], reach: int) -> bool:
    """Whether the sentence has the three terms in this order, with at most `reach` terms between, properties aside."""
    terms = [term for term in sentence.terms if term.role in ("content", "position")]
    for start, first in enumerate(terms):
        if triple[0].equals(first):
            rest = iter(terms[start + 1 : start + 3 + reach])
            if all(any(wanted.equals(term) for term in rest) for wanted in triple[1:]):
                return True
    return False


def _has_word(sentence: Sentence, section: str, language: str) -> bool:
    return any(
        entry.section == section and len(entry.words) == 1
        for word in sentence.words
        for entry in lexicon().entries.get((language, word), ())
    )


def _begins_with(section: str, language: str, text: str) -> bool:
    """Whether `text` begins with a word of the section, and then ends or goes on behind a punctuation mark."""
    start = re.match(r"\W*(\w+)\s*(?:$|[^\w\s])", text)
    return start is not None and any(
        entry.section == section and "".join(entry.words) == start[1].lower()
        for entry in lexicon().entries.get((language, words(start[1])[0]), ())
    )


def _question_problem(claim: str, terms: Sequence[Term], question: str, source: Source) -> str:
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
        any(_has_word(part, "passive", source.language) for part in sentences(text, source.language))
        for text in (claim, question)
    }
    facts = [[term for term in terms if term.role == "content"] for terms in (wanted, got)]
    return len(voices) == 2 and _equal(facts[0], facts[1][::-1])


def _has_same_properties(claim: Sequence[Sentence], question: Sequence[Sentence]) -> bool:
    """Whether only properties stand elsewhere, with the same nouns: "The hat is red." | "Is it a red hat?"."""
    rest = [[t for part in text for t in part.terms if t.role != "attribute"] for text in (claim, question)]
    if not _equal(_sequence(rest[0]), _sequence(rest[1])):
        return False
    pairs = [
        [pair for part in text for pair in _properties(part) if ONE not in pair[0].ids] for text in (claim, question)
    ]
    return len(pairs[0]) == len(pairs[1]) and all(
        any(value.equals(other) and noun.equals(owner) for other, owner, _ in pairs[1]) for value, noun, _ in pairs[0]
    )
