"""Text as sentences of terms: the words with content, in their base form and with their synonyms.

Base forms of English and German come from the library simplemma, everything else from lexicon.txt. Chinese is divided
by the longest match with the lexicon; each other character is a word of its own.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import simplemma

from feedback.check.form import sentence_spans
from feedback.check.lexicon import LANGUAGES, Entry, lexicon
from rlaif.text import is_unspaced, without_ending, words

ONE = "=1"  # "one" says no more than an article, unless another number stands in its place
_SEMICOLON = re.compile("[;\uff1b]")
_NOT = re.compile(r"(?:(?<=ca)n|n)['\u2019]t\b|(?<=can)not\b", re.IGNORECASE)
# Within a number, and between clauses: the words of a text have no punctuation, so it becomes a letter and a word.
_DECIMAL, _CLAUSE = re.compile(r"(?<=\d)[.,:](?=\d)"), re.compile("[,:()\uff0c\u3001\uff1a\uff08\uff09]")
_DECIMAL_LETTER, COMMA = "d", "\u01c1"
_A_NOT_A = re.compile(r"(.)[不没](?=\1)")  # Chinese "is or is not": it asks and does not negate
_LIST_WORDS = frozenset({"or", "nor", "oder", "noch", "和", "或"})  # after a negation, it holds for both
_JOINED = frozenset({COMMA, "and", "und", "or", "oder", "和", "与"})  # between properties of one thing
_COMMON = ("function", "negation", "position")  # the sections by whose words a language is recognized
_NEXT_NOUN = frozenset({"and", "und", "和", "与", "a", "an", "the", "ein", "eine", "einen", "der", "die", "das", "den"})
# Between a Chinese property or number and its noun.
_MEASURES = frozenset("的个只条张位名辆座幅件顶匹朵棵台艘架种把块片杯瓶本双头口盏盆")
# Words after a position that take the place of its noun.
_OBJECTS = frozenset(("it", "them", "him", "her", "me", "us", "ihm", "ihnen", "ihn", "uns", "and", "und"))


@dataclass(frozen=True)
class Term:
    """A word or phrase with content.

    ids: its base form, its stem and its groups of synonyms; terms that share one have the same meaning. start, end:
    its words in the sentence. is_posture: a verb such as "stand". negated: it stands in the scope of a negation.
    """

    text: str
    ids: frozenset[str]
    role: str  # "content", "attribute", "position" or "negation"
    start: int
    end: int
    is_posture: bool = False
    is_german: bool = False
    negated: bool = False

    @property
    def is_number(self) -> bool:
        return self.text[0].isdecimal() or any(group[1:].isdecimal() for group in self.ids if group[0] == "=")

    def equals(self, other: "Term") -> bool:
        return not self.ids.isdisjoint(other.ids)

    def covers(self, other: "Term") -> bool:
        """Whether it says no more than `other`: the same, another form of the word, or a kind of it."""
        if self.equals(other) or _are_forms(self.text, other.text):
            return True
        if (
            self.is_german
            and len(self.text) > 3
            and (other.text.startswith(self.text) or other.text.endswith(self.text))
        ):
            return True  # wood and a table in "Holztisch"
        if "=man" in self.ids and other.text.endswith("man") and not other.text.endswith("woman"):
            return True  # a fisherman
        kinds = lexicon().kinds
        return any(not kinds[group].isdisjoint(other.ids) for group in self.ids & kinds.keys())

    def excludes(self, other: "Term") -> bool:
        """Whether both are alternatives: red and blue, two and three, on and under."""
        if self.equals(other):
            return False
        if self.is_number and other.is_number:
            return True
        return not lexicon().sets_of(self.ids).isdisjoint(lexicon().sets_of(other.ids))


@dataclass(frozen=True)
class Sentence:
    """The terms of a sentence in order, and all of its words."""

    terms: tuple[Term, ...]
    words: tuple[str, ...]

    def ends(self, index: int, count: int) -> list[Term]:
        """The next `count` terms with content, such as both ends of "between"; in Chinese those before."""
        if is_unspaced(self.terms[index].text[0]):
            return [term for term in self.terms[:index] if term.role == "content"][-count:]
        return [term for term in self.terms[index + 1 :] if term.role == "content"][:count]

    def near(self, index: int) -> list[Term]:
        """The terms with content around a number: the one before it, and those after it up to an "and" or article."""
        nouns = [term for term in self.terms[:index] if term.role == "content"][-1:]
        for before, term in zip(self.terms[index:], self.terms[index + 1 :], strict=False):
            if not _NEXT_NOUN.isdisjoint(self.words[before.end : term.start]):
                break
            nouns.append(term)
        return nouns

    def heads(self, index: int) -> list[Term]:
        """What the property at `index` belongs to: "a red and white hat", "the hat is red", "红色的帽子" -> hat.

        The noun that follows at once, behind other properties if need be, or else any noun before it in the clause.
        Both if a number follows "and": "a cow at the right and two pigs", "a dish with a red and two green apples".
        """
        clause = max((i for i, word in enumerate(self.words[: self.terms[index].start]) if word == COMMA), default=-1)
        nouns = [term for term in self.terms[:index] if term.role == "content"]
        nouns = [term for term in nouns if term.start > clause] or nouns[-1:]
        earlier: list[Term] = []
        last = index
        for position in range(index + 1, len(self.terms)):
            gap = set(self.words[self.terms[last].end : self.terms[position].start])
            if self.terms[position].role == "content" and gap <= _MEASURES:
                return [*earlier, self.terms[position]]
            joined = _JOINED - {COMMA} if is_unspaced(self.terms[last].text[0]) else _JOINED
            if self.terms[position].role != "attribute" or not gap <= joined | _MEASURES:
                break
            if self.terms[position].is_number and not self.terms[last].is_number and not gap.isdisjoint(_JOINED):
                earlier = nouns
            last = position
        return nouns

    def object(self, index: int) -> Term | None:
        """The noun that a position at `index` refers to: "under the old table" -> table; None for "under it".

        In Chinese it stands before the position.
        """
        if is_unspaced(self.terms[index].text[0]):
            return next((term for term in reversed(self.terms[:index]) if term.role == "content"), None)
        last = self.terms[index].end
        for term in self.terms[index + 1 :]:
            gap = self.words[last : term.start]
            if len(gap) > 1 or not _OBJECTS.isdisjoint(gap):
                return None
            if term.role == "content":
                return term
            last = term.end
        return None


def language_of(text: str) -> str:
    """The language whose function words `text` has most of; "" if it has hardly any of a known one.

    A text with Chinese characters, and no Japanese or Korean ones, is Chinese.
    """
    if re.search("[\u3040-\u30ff\uac00-\ud7af\u0e00-\u0eff]", text):
        return ""
    tokens = words(text)
    if sum(map(is_unspaced, tokens)) * 2 > len(tokens):
        return "zh"
    counts = Counter(language for token in tokens for language in _languages_with(token))
    if not counts:
        return ""
    language, count = max(counts.items(), key=lambda item: (item[1], -LANGUAGES.index(item[0])))
    return language if count * 8 >= len(tokens) else ""


@lru_cache(maxsize=2**14)
def _languages_with(word: str) -> tuple[str, ...]:
    """The languages that have `word` among their common words."""
    return tuple(
        language
        for language in LANGUAGES
        if any(entry.section in _COMMON for entry in lexicon().find(language, [word]))
    )


@lru_cache(maxsize=2**14)  # responses to one prompt share many sentences
def sentences(text: str, language: str) -> tuple[Sentence, ...]:
    """The sentences of `text` that have a word."""
    text = _CLAUSE.sub(f" {COMMA} ", _DECIMAL.sub(_DECIMAL_LETTER, _A_NOT_A.sub("", _NOT.sub(" not", text))))
    ends = (text[start:end] for start, end in sentence_spans(text))
    parts = (_sentence(part, language) for sentence in ends for part in _SEMICOLON.split(sentence))
    return tuple(part for part in parts if part.words)


def _sentence(text: str, language: str) -> Sentence:
    tokens = words(text)
    return Sentence(tuple(_mark_negated(list(_terms(tokens, language)), tokens)), tuple(tokens))


def _terms(tokens: list[str], language: str) -> Iterator[Term]:
    start, last = 0, -1
    while start < len(tokens):
        token = tokens[start]
        if token == COMMA:
            start += 1
            continue
        tongue = "zh" if is_unspaced(token) else language
        base = base_form(token, tongue)
        entries = lexicon().find(tongue, tokens[start:]) or _entries_of_forms(token, base, tongue)
        end = start + (len(entries[0].words) if entries else 1)
        term = _term(tokens[start:end], base, entries, start, tongue)
        if term and term.role == "position" and is_unspaced(term.text) and last != start:
            term = replace(term, role="content")  # in Chinese a place stands behind its noun
        if language == "de" and end == len(tokens) and token in ("an", "aus"):
            term = Term(token, frozenset({f"={token}"}), "position", start, end)  # "das Licht ist an"
        if term:
            yield term
            last = end
        start = end


def _entries_of_forms(word: str, base: str, language: str) -> list[Entry]:
    """The entries of the base form, or of the verb of a form in -ing, which simplemma takes for a noun."""
    stem = _stem(word) if word.endswith("ing") else base
    forms = (base, stem, f"{stem}e")
    return next(filter(None, (lexicon().find(language, [form]) for form in forms)), [])


def _term(tokens: list[str], base: str, entries: list[Entry], start: int, language: str) -> Term | None:
    """The term of these words; None if they carry no fact."""
    end = start + len(tokens)
    sections = {entry.section for entry in entries}
    if "negation" in sections:
        return Term(" ".join(tokens), frozenset({"=not"}), "negation", start, end)
    if sections & {"function", "generic"}:
        return None
    role = next((name for name in ("attribute", "position") if name in sections), "content")
    ids = {entry.group for entry in entries if entry.group}
    if len(tokens) == 1:
        ids |= {f"={tokens[0]}", f"={base}", f"~{_stem(tokens[0])}", f"~{_stem(base)}", f"={_adjective(base)}"}
    else:
        ids.add("=" + " ".join(tokens))
    return Term(" ".join(tokens), frozenset(ids), role, start, end, "posture" in sections, language == "de")


@lru_cache(maxsize=2**16)
def base_form(word: str, language: str) -> str:
    """ "men" -> "man", "liegt" -> "liegen"; the word itself in other languages."""
    return simplemma.lemmatize(word, lang=language).lower() if language in ("en", "de") else word


def _stem(word: str) -> str:
    stem = without_ending(word)
    return stem[:-1] if stem != word and len(stem) > 3 and stem[-1] == stem[-2] else stem


def _adjective(word: str) -> str:
    """ "heavily" -> "heavy"; other words as they are."""
    return re.sub(r"(?<=\w{3})ily$", "y", word) if word.endswith("ily") else re.sub(r"(?<=\w{4})ly$", "", word)


@lru_cache(maxsize=2**16)
def _are_forms(first: str, second: str) -> bool:
    """Whether two words begin alike for most of their length: motorcycle, motorcyclist."""
    if first[0].isdecimal():
        return False  # 10:30, 10:35
    shorter, longer = sorted((first, second), key=len)
    shared = next((i for i, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b), len(shorter))
    return shared >= 4 and shared >= 0.7 * len(longer)


def _mark_negated(terms: list[Term], tokens: list[str]) -> list[Term]:
    """Mark what each negation negates: the noun or verb after it with its properties, or else the term before it."""
    negated: set[int] = set()
    for index, negation in enumerate(terms):
        if negation.role != "negation" or (negation.start == 0 and tokens[1:2] == [COMMA]):  # "No, the door is open."
            continue
        following = index + 1
        while following < len(terms):
            if terms[following].role == "negation":
                break
            negated.add(following)
            following += 1
            if terms[following - 1].role == "content":
                end = terms[following - 1].end
                is_half = (
                    terms[following : following + 1] and terms[following].start == end and is_unspaced(tokens[end])
                )
                if not is_half and (not tokens[end:] or tokens[end] not in _LIST_WORDS):
                    break
        if following == index + 1 and index and negation.text in ("nicht", "not"):
            negated.add(index - 1)
    return [replace(term, negated=True) if index in negated else term for index, term in enumerate(terms)]
