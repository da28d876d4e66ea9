"""The truth of an embedded scene, and texts compared with it."""

import json
from collections import Counter
from collections.abc import Sequence
from random import Random

from rlaif.text import words
from scenes.language import CAPTION_WORDS, SignMention, find_mentions, mention_is_true
from scenes.language.mentions import count_things_found
from scenes.short_questions import ShortQuestion, short_questions


class SceneTruth:
    """Implements `evaluation.truth.Truth`; reference: `scenes.world.Scene.truth` as JSON."""

    def __init__(self, reference: str) -> None:
        self._truth = json.loads(reference)

    @property
    def num_objects(self) -> int:
        """Things and the sign."""
        return len(self._truth["objects"]) + bool(self._truth["sign"])

    def check_mentions(self, text: str) -> list[bool]:
        return [mention_is_true(mention, self._truth) for mention in find_mentions(text)]

    def count_objects_found(self, text: str) -> int:
        mentions = find_mentions(text)
        signs = [mention for mention in mentions if isinstance(mention, SignMention)]
        return count_things_found(mentions, self._truth) + any(mention_is_true(sign, self._truth) for sign in signs)

    def claim_is_true(self, claim: str) -> bool | None:
        mentions = find_mentions(claim)
        return mention_is_true(mentions[0], self._truth) if len(mentions) == 1 else None

    def split_is_correct(self, text: str, claims: Sequence[str]) -> bool:
        claimed = [find_mentions(claim) for claim in claims]
        if any(len(mentions) != 1 for mentions in claimed):
            return False
        return Counter(mentions[0] for mentions in claimed) == Counter(set(find_mentions(text)))

    def has_stray_words(self, text: str) -> bool:
        return not CAPTION_WORDS.issuperset(word for word in words(text) if not word.isdigit())

    def short_questions(self, rng: Random) -> list[ShortQuestion]:
        return short_questions(self._truth, rng)
