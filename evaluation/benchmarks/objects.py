"""Finds the names of objects in a text, out of a given list. Pure.

The reference tools of CHAIR and AMBER reduce the words of a text to the singular, and AMBER keeps only nouns, with NLTK
or spaCy and their models. Neither is needed here:
- names get plural forms instead, by the rules of regular nouns and a table of irregular ones: adding forms never turns
  one word into another;
- the longest name wins, so that a "hot dog" is not a dog and a "wine glass" not a glass;
- parts of speech are not distinguished. A name that is also a function word ("can") is found only in the plural; of
  other such names ("watch", "light") each use counts.
"""

from collections.abc import Mapping

from rlaif.text import content_words, words

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


class Names:
    """Names of one or more words, and the object of each; None: such a name is not an object, nor are its parts."""

    def __init__(self, objects: Mapping[str, str | None]) -> None:
        self._objects: dict[tuple[str, ...], str | None] = {}
        split = {name: tuple(words(name)) for name in objects}
        for name, parts in split.items():
            if content_words(name):
                self._objects[parts] = objects[name]
        for name, parts in split.items():
            if parts:
                for plural in sorted(plurals(parts[-1])):
                    self._objects.setdefault((*parts[:-1], plural), objects[name])
        self._longest = max(map(len, self._objects), default=0)

    def find(self, text: str) -> list[str]:
        """The object of every name in the text, in order; named twice, it is there twice."""
        text_words = words(text)
        objects = []
        start = 0
        while start < len(text_words):
            for length in range(min(self._longest, len(text_words) - start), 0, -1):
                parts = tuple(text_words[start : start + length])
                if parts in self._objects:
                    if (item := self._objects[parts]) is not None:
                        objects.append(item)
                    start += length
                    break
            else:
                start += 1
        return objects
