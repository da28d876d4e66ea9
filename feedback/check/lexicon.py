"""lexicon.txt as a table of phrases: what each means, and what excludes what."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rlaif.text import words

LANGUAGES = ("en", "de", "zh", "fr", "es")
_EXCLUSIVE = ("attribute", "contrast", "position")  # the sections whose lines list alternatives


class Entry(NamedTuple):
    """A phrase of the lexicon. group: the words that have one meaning, "=" and the first of them."""

    words: tuple[str, ...]
    section: str
    group: str


@dataclass
class Lexicon:
    """entries: by language and first word, the longest first. sets: a group -> the lines with it as an alternative.

    kinds: a general group -> the groups that it may stand for.
    """

    entries: dict[tuple[str, str], list[Entry]] = field(default_factory=lambda: defaultdict(list))
    kinds: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    sets: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def add(self, language: str, phrase: str, section: str, group: str = "") -> None:
        key = tuple(words(phrase))
        entries = self.entries[language, key[0]]
        entries.append(Entry(key, section, group))
        entries.sort(key=lambda entry: len(entry.words), reverse=True)

    def find(self, language: str, ahead: Sequence[str]) -> list[Entry]:
        """The entries of the longest phrase with which `ahead` begins; [] if there is none."""
        found = [e for e in self.entries.get((language, ahead[0]), ()) if tuple(ahead[: len(e.words)]) == e.words]
        return [entry for entry in found if len(entry.words) == len(found[0].words)]

    def sets_of(self, groups: Iterable[str]) -> set[int]:
        return set().union(*(self.sets[group] for group in groups if group in self.sets))


@cache
def lexicon() -> Lexicon:
    """Read lexicon.txt, once a process."""
    result, section = Lexicon(), ""
    text = Path(__file__).with_name("lexicon.txt").read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
        elif listed := re.fullmatch(r"([a-z]{2}): (.*)", line):
            for phrase, word in re.findall(r'"([^"]+)"|(\S+)', listed[2]):
                result.add(listed[1], phrase or word, section)
        elif section == "kind":
            general, _, members = line.partition(" : ")
            result.kinds[_add_group(result, general, section)] |= {f"={name}" for name in members.split()}
        else:
            for alternative in line.split(" | "):
                group = _add_group(result, alternative, section)
                if section in _EXCLUSIVE:
                    result.sets[group].add(number)
    return result


def _add_group(result: Lexicon, columns: str, section: str) -> str:
    """Add "dog, puppy ; hund ; 狗" (English, German, Chinese); returns its group, "=dog"."""
    group = "=" + re.split("[,;]", columns)[0].strip()
    for language, column in zip(LANGUAGES, columns.split(";"), strict=False):
        for phrase in filter(None, map(str.strip, column.split(","))):
            result.add(language, phrase, section, group)
    return group
