"""A prompt in pieces: ids and features in the order in which the language model reads them."""

import numpy as np
import pytest

from edge.slices import Prompt
from rlaif.errors import InputError

PROMPT = Prompt([7, 0, 0, 8, 0, 0, 9], [(1, 3), (4, 6)], None, end_of_turn=5)
FEATURES = np.arange(12, dtype=np.float32).reshape(2, 2, 3)  # 2 slices, 2 queries, width 3


def test_each_slot_holds_the_features_of_its_slice() -> None:
    first, one, second, two, third = PROMPT.pieces(FEATURES)
    assert (first, second, third) == ([7], [8], [9])
    assert np.array_equal(one, [[0, 1, 2], [3, 4, 5]])
    assert np.array_equal(two, [[6, 7, 8], [9, 10, 11]])


def test_the_order_of_slices_counts() -> None:
    swapped = PROMPT.pieces(FEATURES[::-1])
    assert not np.array_equal(swapped[1], PROMPT.pieces(FEATURES)[1])


def test_a_prompt_may_begin_and_end_with_a_slice_and_has_no_empty_piece() -> None:
    pieces = Prompt([0, 0], [(0, 1), (1, 2)], None, 5).pieces(FEATURES[:, :1])
    assert [len(piece) for piece in pieces] == [1, 1]
    assert Prompt([3, 4], [], None, 5).pieces(None) == [[3, 4]]


@pytest.mark.parametrize(
    "features", [None, FEATURES[:1], FEATURES[:, :1]], ids=["none", "a slice less", "a query less"]
)
def test_features_of_another_prompt_are_refused(features: np.ndarray | None) -> None:
    with pytest.raises(InputError, match=r"for 2 slices of \[2\] tokens; encode the slices of this prompt"):
        PROMPT.pieces(features)
