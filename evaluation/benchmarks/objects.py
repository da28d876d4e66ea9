"""Finds the names of objects in a text, out of a given list. Pure.

The reference tools of CHAIR and AMBER reduce the words of a text to the singular, and AMBER keeps only nouns, with NLTK
or spaCy and their models. Neither is needed here:
- names get plural forms instead, by the rules of regular nouns and a table of irregular ones: adding forms never turns
  one word into another;
- the longest name wins, so that a "hot dog" is not a dog and a "wine glass" not a glass;
- a name lies within a clause: "The soup is hot. Dogs play." has no hot dog. Every punctuation mark, line break and dash
  ends a clause;
- a word with hyphens or an apostrophe is a name as a whole or not at all: a "hot-dog" is a hot dog, but a "horse-drawn"
  carriage has no horse, a "first-person" view no person and "two o'clock" no clock. A possessive is no part of it: in
  "the dog's tail" there is a dog;
- parts of speech are not distinguished. A name that is also a function word ("can") is found only in the plural; of
  other such names ("watch", "light") each use counts.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from rlaif.text import content_words, words

Item = TypeVar("Item")

_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060"))  # soft hyphen, zero-width space and joiners
_JOINER = "[-_\u2010\u2011\uff0d'\u2019\u02bc]"  # hyphens, apostrophes
# A written word: letters and digits, joined or not; "cat-" in "cat- and dog-themed" is one, and is no cat.
_WRITTEN = re.compile(rf"[^\W_]+(?:{_JOINER}[^\W_]+)*(?:-(?=\s))?")
_CLITIC = re.compile(r"(?<=[^\W_])['\u2019\u02bc](?=(?:s|d|m|ll|re|ve)(?![^\W_]|-))", re.IGNORECASE)

_IRREGULAR = {
    "human": "humans",  # before "man", with which it ends
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "mouse": "mice",
    "ox": "oxen",
}
_SAME = frozenset({"sheep", "deer", "fish", "aircraft", "cattle", "series"})


def plurals(noun: str) -> set[str]:
    """Every plural that a noun may have: "man" -> men; "knife" -> knives, knifes; "bus" -> buses."""
    for singular, plural in _IRREGULAR.items():
        if noun == singular or (singular in ("man", "woman", "child", "person") and noun.endswith(singular)):
            return {noun.removesuffix(singular) + plural, *({f"{noun}s"} if singular == "person" else set())}
    if noun in _SAME:
        return {noun}
    if noun.endswith("y") and noun[-2:-1] not in ("", *"aeiou"):
        return {f"{noun[:-1]}ies"}
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return {f"{noun}es"}
    if noun.endswith("fe"):
        return {f"{noun[:-2]}ves", f"{noun}s"}
    if noun.endswith("f"):
        return {f"{noun[:-1]}ves", f"{noun}s"}
    if noun.endswith("o"):
        return {f"{noun}es", f"{noun}s"}
    return {f"{noun}s"}


class Names(Generic[Item]):
    """Names of one or more words, and the item of each; None: such a name is not an object, nor are its parts."""

    def __init__(self, items: Mapping[str, Item | None]) -> None:
        self._items: dict[tuple[str, ...], Item | None] = {}
        split = {name: tuple(words(name)) for name in items}
        for name, parts in split.items():
            if content_words(name):
                self._items[parts] = items[name]
        for name, parts in split.items():
            if parts:
                for plural in sorted(plurals(parts[-1])):
                    self._items.setdefault((*parts[:-1], plural), items[name])
        self._longest = max(map(len, self._items), default=0)

    def find(self, text: str) -> list[Item]:
        """The item of every name in the text, in order; named twice, it is there twice."""
        return [item for clause in _clauses(text) for item in self._find(clause)]

    def _find(self, clause: list[list[str]]) -> Iterator[Item]:
        """The items in one clause; clause: its written words, each as its parts ("fire-hydrant" -> fire, hydrant)."""
        start = 0
        while start < len(clause):
            for stop in range(min(len(clause), start + self._longest), start, -1):
                key = tuple(part for word in clause[start:stop] for part in word)
                if key not in self._items and stop == start + 1:
                    key = ("".join(key),)  # "mini-van": minivan
                if key in self._items:
                    if (item := self._items[key]) is not None:
                        yield item
                    start = stop
                    break
            else:
                start += 1


def _clauses(text: str) -> Iterator[list[list[str]]]:
    """The clauses of a text: lists of written words, each as its lower-cased parts."""
    text = _CLITIC.sub(" ", text.translate(_INVISIBLE))
    clause: list[list[str]] = []
    end = 0
    for match in _WRITTEN.finditer(text):
        gap = text[end : match.start()]
        if clause and (gap.strip() or "\n" in gap or "\r" in gap):
            yield clause
            clause = []
        clause += _parts(match[0])
        end = match.end()
    if clause:
        yield clause


def _parts(written: str) -> list[list[str]]:
    """The parts of a written word. Without a hyphen or an apostrophe, each part is a word: scripts without spaces."""
    parts = words(written)
    if written.endswith("-"):
        return [[*parts, "-"]]
    return [parts] if re.search(_JOINER, written) else [[part] for part in parts]
