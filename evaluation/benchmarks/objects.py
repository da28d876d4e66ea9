"""Finds objects that a text names, out of a given list of names. Pure.

The reference tools of CHAIR and AMBER put the words of a text into the singular, and AMBER keeps its nouns, by NLTK or
spaCy and their models. Neither is needed here:
- names are put into the plural instead, by the rules of regular nouns and a table of irregular ones: a rule that only
  adds forms makes no word out of another;
- the longest name wins, so that a "hot dog" is no dog and a "wine glass" no glass;
- parts of speech are not told apart. A name that is also a function word ("can") is found in the plural alone; of other
  such names ("watch", "light") each use counts.
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
    """Names of one or more words, with the object that each stands for; None: no object, nor those named within it."""

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
        """The object of every name in the text, in order; twice where it is named twice."""
        said = words(text)
        found = []
        at = 0
        while at < len(said):
            for length in range(min(self._longest, len(said) - at), 0, -1):
                parts = tuple(said[at : at + length])
                if parts in self._objects:
                    if (named := self._objects[parts]) is not None:
                        found.append(named)
                    at += length
                    break
            else:
                at += 1
        return found
