"""What evaluation needs to know about a world whose truth is known, and which data source has such a world.

A source of images with known truth writes it into the column `reference` of `prompts`; only its `Truth` reads it.
To add such a source, implement `Truth` next to it and return it from `truth_of`.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol


class Truth(Protocol):
    """What is true of one image."""

    @property
    def num_objects(self) -> int:
        """Objects of the image that a description should name; a sign with words is one."""

    def check_mentions(self, text: str) -> Sequence[bool]:
        """Whether each mention is true of the image, in order; a repeated mention counts each time.

        A mention says something that can be checked: of objects, how they stand to each other, the kind of scene, the
        words of a sign.
        """

    def count_objects_found(self, text: str) -> int:
        """Objects of the image that at least one mention is true of; a mention that fits several finds all of them."""

    def claim_is_true(self, claim: str) -> bool | None:
        """Whether a claim holds; None if it does not make exactly one mention and so cannot be checked."""

    def split_is_correct(self, text: str, claims: Sequence[str]) -> bool:
        """Whether the claims are those of the text: none lost, none added, none twice, one mention in each."""

    def has_stray_words(self, text: str) -> bool:
        """Whether the text has words that no description of an image of this world has."""

    def short_questions(self, rng: Random) -> Sequence[tuple[str, str, str]]:
        """(kind, question, answer) of questions about the image, answered in a few words; may be empty.

        An answer is the whole text that is correct, such as "It is red.".
        """


TruthLookup = Callable[[str, str | None], Truth | None]  # the signature of `truth_of`


def truth_of(source: str, reference: str | None) -> Truth | None:
    """The truth of an image, from the columns `source` and `reference` of its row; None where no truth is known."""
    if reference is None or source != "scenes":
        return None
    from scenes.truth import SceneTruth

    return SceneTruth(reference)
