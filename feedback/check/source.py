"""The response that claims are taken from, with the instruction that it answers, as sentences of terms."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from feedback.check.lexicon import lexicon
from feedback.check.terms import Sentence, Term, language_of, sentences
from rlaif.text import words

# A property and its noun ("head"), or a position and the noun after it ("object").
Property = tuple[Term, Term, Literal["head", "object"]]
_AUXILIARIES = {"is", "are", "was", "were", "does", "do", "did", "has", "have", "can", "ist", "sind"}
_FEW_WORDS = 4  # too few to recognize a language by


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

    def leaves_out(self, negated: bool) -> bool:
        """Whether a sentence leaves out what it denies, "The other does not.", or what it says, "The child is."."""
        return any(
            part.terms and part.terms[-1].role == "negation" if negated else part.words[-1] in _AUXILIARIES
            for part in self.sentences
            if len(part.words) > 1
        )

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
        return tuple(pair for sentence in self.sentences for pair in properties_of(sentence))


def properties_of(sentence: Sentence) -> Iterator[Property]:
    """What a sentence says of its nouns."""
    for index, term in enumerate(sentence.terms):
        if term.role == "attribute":
            for noun in sentence.heads(index):
                yield term, noun, "head"
        elif term.role == "position" and (after := sentence.object(index)):
            yield term, after, "object"


def has_word(sentence: Sentence, section: str, language: str) -> bool:
    """Whether the sentence has a word that stands in this section of the lexicon."""
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
