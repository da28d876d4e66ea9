"""The truth of an embedded scene, and texts compared with it."""

import json
from collections import Counter
from collections.abc import Sequence
from random import Random

from rlaif.text import words
from scenes.language import CAPTION_WORDS, find_mentions, mention_is_true
from scenes.short_questions import ShortQuestion, short_questions


class SceneTruth:
    """Implements `evaluation.truth.Truth`; reference: `scenes.world.Scene.truth` as JSON."""

    def __init__(self, reference: str) -> None:
        self._objects = json.loads(reference)["objects"]

    @property
    def num_objects(self) -> int:
        return len(self._objects)

    def check_mentions(self, text: str) -> list[bool]:
        return [mention_is_true(mention, self._objects) for mention in find_mentions(text)]

    def count_objects_found(self, text: str) -> int:
        mentions = find_mentions(text)
        return sum(any(mention_is_true(mention, [item]) for mention in mentions) for item in self._objects)

    def claim_is_true(self, claim: str) -> bool | None:
        mentions = find_mentions(claim)
        return mention_is_true(mentions[0], self._objects) if len(mentions) == 1 else None

    def split_is_correct(self, text: str, claims: Sequence[str]) -> bool:
        claimed = [find_mentions(claim) for claim in claims]
        if any(len(mentions) != 1 for mentions in claimed):
            return False
        return Counter(mentions[0] for mentions in claimed) == Counter(set(find_mentions(text)))

    def has_stray_words(self, text: str) -> bool:
        return not CAPTION_WORDS.issuperset(words(text))

    def short_questions(self, rng: Random) -> list[ShortQuestion]:
        return short_questions(self._objects, rng)
