"""Does a response contradict a claim, although it has all of its words?

Its negations, colors, numbers and places belong to certain nouns, and somebody does something to somebody.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import zip_longest

from feedback.check.lexicon import lexicon
from feedback.check.source import Source, has_word, properties_of
from feedback.check.terms import ONE, Sentence, Term
from rlaif.text import is_unspaced

FACTS = ("content", "attribute")
_POSSESSIVES = {"his", "her", "its", "their", "sein", "seine", "seinen", "seiner", "ihr", "ihre", "ihren", "ihrer"}
_ARTICLES = {
    "a",
    "an",
    "the",
    "this",
    "that",
    "ein",
    "eine",
    "einen",
    "einem",
    "einer",
    "der",
    "die",
    "das",
    "den",
    "dem",
}
_THAN = {"than", "als", "比"}
_SIDES = {"=left", "=right"}
_ANYBODY = {"=person", "=people", "=group", "=crowd", "=couple", "=family", "=team"}


def contradicts(parts: Sequence[Sentence], source: Source) -> bool:
    """Whether the source says otherwise than the claim, whose sentences are `parts`."""
    facts = [term for part in parts for term in part.terms if term.role in FACTS and ONE not in term.ids]
    checks = (_has_other_property, _is_mixed_up, _is_elsewhere, _is_turned, _is_compared_otherwise, _is_about_another)
    return _is_negated_otherwise(facts, source) or any(check(part, source) for part in parts for check in checks)


def _is_negated_otherwise(facts: Sequence[Term], source: Source) -> bool:
    """Whether the source has a word of the claim only with the opposite polarity.

    After "No.", the words of the instruction have either, but the last of them must be negated.
    """
    asked = [term for part in source.instructed for term in part.terms if term.role in FACTS]
    if source.answer == "no" and asked:
        said = [term for part in source.said for term in part.terms if term.role in FACTS]
        if not any(term.covers(asked[-1]) for term in said) and any(
            term.covers(asked[-1]) and not term.negated for term in facts
        ):
            return True
    for term in facts:
        told = [other for part in source.said for other in part.terms if term.covers(other)]
        if source.answer == "no" and told and not any(other.negated == term.negated for other in told):
            return True
        if source.says(term, term.negated) or not source.says(term, not term.negated):
            continue
        is_open = source.leaves_out(term.negated)
        if not is_open and not (source.answer == "no" and any(term.covers(other) for other in asked)):
            return True
    return False


def _has_other_property(part: Sentence, source: Source) -> bool:
    """Whether the source gives a noun of the claim another color, number or place."""
    for value, noun, side in properties_of(part):
        others = [other for other, owner, where in source.properties if where == side and noun.equals(owner)]
        if any(value.equals(other) for other in (source.terms if ONE in value.ids else others)):
            continue
        if any(value.excludes(other) for other in others) or (value.is_number and _counts_another(value, noun, source)):
            return True
    return False


def _is_mixed_up(part: Sentence, source: Source) -> bool:
    """Whether no thing of the source has all properties of a noun: "a red car" of a red bus and a blue car."""
    things = [owned for sentence in source.sentences for owned in _things(sentence)]
    for noun, values in _things(part):
        others = [owned for other, owned in things if noun.equals(other)]
        if others and all(any(_conflicts(value, owned) for value in values) for owned in others):
            return True
    return False


def _conflicts(value: Term, owned: Sequence[Term]) -> bool:
    return any(value.excludes(other) for other in owned) and not any(value.equals(other) for other in owned)


def _things(sentence: Sentence) -> list[tuple[Term, list[Term]]]:
    """Each noun of a sentence with its properties."""
    owned: dict[int, list[Term]] = {}
    for value, noun, side in properties_of(sentence):
        if side == "head" and ONE not in value.ids:
            owned.setdefault(noun.start, []).append(value)
    return [(term, owned.get(term.start, [])) for term in sentence.terms if term.role == "content"]


def _counts_another(number: Term, noun: Term, source: Source) -> bool:
    """Whether the source has this number of other things only, and the noun without it."""
    if ONE in number.ids or not any(noun.equals(term) for term in source.terms):
        return False
    counted = [s.near(index) for s in source.sentences for index, term in enumerate(s.terms) if number.equals(term)]
    return bool(counted) and all(
        nouns and not any(other.covers(noun) or noun.covers(other) for other in nouns) for nouns in counted
    )


def _is_elsewhere(part: Sentence, source: Source) -> bool:
    """Whether the claim gives a place where the source has another one.

    Either the source does not name this place, but an alternative in a sentence about the same thing, or each of its
    sentences with both nouns has an alternative.
    """
    for index, term in enumerate(part.terms):
        if term.role != "position":
            continue
        nouns = [other for other in part.terms if other.role == "content" and not other.is_posture]
        if not any(term.equals(other) for other in source.terms):
            shared = [s for s in source.sentences if any(n.equals(t) for n in nouns for t in s.terms)]
            if any(term.excludes(other) for sentence in shared for other in sentence.terms if other.role == "position"):
                return True
        subject, noun = _last_noun(part.terms[:index]), part.object(index)
        if subject and noun and not subject.equals(noun):
            shared = [s for s in source.sentences if all(any(n.equals(t) for t in s.terms) for n in (subject, noun))]
            owned = [pair for sentence in shared for pair in properties_of(sentence) if noun.equals(pair[1])]
            places = [other for other, _, side in owned if side == "object"]
            if any(term.excludes(other) for other in places) and not any(term.equals(other) for other in places):
                return True
        if "=between" in term.ids:
            ends = part.ends(index, 2)
            pairs = [s.ends(i, 4) for s in source.sentences for i, t in enumerate(s.terms) if term.equals(t)]
            if pairs and not any(all(any(end.covers(t) for t in nouns) for end in ends) for nouns in pairs):
                return True
    return False


def _last_noun(terms: Sequence[Term]) -> Term | None:
    return next((term for term in reversed(terms) if term.role == "content" and not term.is_posture), None)


def _is_turned(part: Sentence, source: Source) -> bool:
    """Whether the source has who does what to whom the other way round only, a change to the passive aside."""
    if has_word(part, "symmetric", source.language):
        return False
    for triple in _triples(part):
        reach = 1 if source.language == "zh" else 0  # a word that the lexicon lacks is two
        turned = [s for s in source.sentences if _in_order(s, triple[::-1], reach)]
        if source.language == "de":  # the verb may stand last
            turned += [s for s in source.sentences if _in_order(s, (triple[2], triple[0], triple[1]), reach=2)]
        if not turned or any(_in_order(s, triple, 0 if triple[1].role == "position" else 1) for s in source.sentences):
            continue
        passive = has_word(part, "passive", source.language)
        if any(has_word(sentence, "passive", source.language) == passive for sentence in turned):
            return True
    return False


def _is_compared_otherwise(part: Sentence, source: Source) -> bool:
    """Whether the claim compares two things the other way round than the source: "bigger than"."""
    mine = _compared(part)
    others = [pair for sentence in source.sentences if (pair := _compared(sentence))]
    return mine is not None and (mine not in others) and any(_is_swapped(mine, other) for other in others)


def _is_swapped(first: tuple[Term, Term], second: tuple[Term, Term]) -> bool:
    return first[0].equals(second[1]) and first[1].equals(second[0])


def _compared(sentence: Sentence) -> tuple[Term, Term] | None:
    """(what, than what): the first noun of the sentence and the one after "than"."""
    place = next((index for index, word in enumerate(sentence.words) if word in _THAN), None)
    nouns = [term for term in sentence.terms if term.role == "content"]
    if place is None or not nouns or nouns[0].start > place:
        return None
    than = next((term for term in nouns if term.start > place), None)
    return (nouns[0], than) if than else None


def _triples(sentence: Sentence) -> Iterator[tuple[Term, Term, Term]]:
    """(who, what, whom): consecutive terms, the last with an article, or in Chinese, or numbers."""
    terms = _actors(sentence)
    for who, what, whom in zip(terms, terms[1:], terms[2:], strict=False):
        gap = sentence.words[what.end : whom.start]
        is_noun = (
            not (_ARTICLES | _POSSESSIVES).isdisjoint(gap) or is_unspaced(whom.text[0]) or whom.role == "attribute"
        )
        if who.role == whom.role and who.role != "position" and not who.equals(whom) and is_noun:
            yield who, what, whom


def _actors(sentence: Sentence) -> list[Term]:
    """The terms without properties other than numbers and sides, and without verbs of posture before a place."""
    terms = [
        term
        for term in sentence.terms
        if term.role in ("content", "position") or term.is_number or not term.ids.isdisjoint(_SIDES)
    ]
    return [
        term
        for term, after in zip_longest(terms, terms[1:])
        if not (term.is_posture and after and after.role == "position")
    ]


def _in_order(sentence: Sentence, triple: Sequence[Term], reach: int) -> bool:
    """Whether the sentence has the three terms in this order, with at most `reach` terms between."""
    terms = _actors(sentence)
    for start, first in enumerate(terms):
        if triple[0].equals(first):
            rest = iter(terms[start + 1 : start + 3 + reach])
            if all(any(wanted.equals(term) for term in rest) for wanted in triple[1:]):
                return True
    return False


def _is_about_another(part: Sentence, source: Source) -> bool:
    """Whether the claim says of a person what the source says of another: "A boy wears a crown while his sister claps."

    So it is if, wherever the source has the thing, another person stands before it in the sentence and this one does
    not. A passive may turn this round.
    """
    if has_word(part, "passive", source.language):
        return False
    for index, thing in enumerate(part.terms):
        person = next((term for term in reversed(part.terms[:index]) if _is_somebody(term)), None)
        if person is None or thing.role != "content" or thing.is_posture or _is_somebody(thing):
            continue
        others = [
            [] if has_word(sentence, "passive", source.language) else _persons_of(sentence, place)
            for sentence in source.sentences
            for place, term in enumerate(sentence.terms)
            if thing.equals(term)
        ]
        if others and all(persons and not any(_may_be_one(person, other) for other in persons) for persons in others):
            return True
    return False


def _may_be_one(person: Term, other: Term) -> bool:
    """Whether two words may mean the same person: always for "people" or "group"."""
    if not (person.ids | other.ids).isdisjoint(_ANYBODY):
        return True
    return person.covers(other) or other.covers(person)


def _persons_of(sentence: Sentence, place: int) -> list[Term]:
    """Those to whom the term at `place` may belong: the persons before it, in Chinese also the one it describes.

    Nobody for "her shoulder": a pronoun may stand for anybody.
    """
    thing, after = sentence.terms[place], sentence.terms[place + 1 :]
    if not _POSSESSIVES.isdisjoint(sentence.words[max(0, thing.start - 2) : thing.start]):
        return []
    described = [term for term in after[:1] if "的" in sentence.words[thing.end : term.start]]
    return [term for term in (*sentence.terms[:place], *described) if _is_somebody(term)]


def _is_somebody(term: Term) -> bool:
    """Whether the term is a person or an animal."""
    if term.role != "content":
        return False
    return not term.ids.isdisjoint(_somebody()) or term.text.endswith(("man", "woman", "men", "women"))


@cache
def _somebody() -> set[str]:
    kinds = ("=person", "=people", "=animal", "=bird")
    return set(kinds).union(*(lexicon().kinds[kind] for kind in kinds))
