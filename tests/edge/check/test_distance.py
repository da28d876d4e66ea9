"""Divergence, agreement and feature error against values derived by hand."""

import math

import numpy as np
import pytest

from edge.check.distance import comparable_tokens, compare, divergences, feature_error, listed_divergence, log_softmax


def logits_of(*rows: list[float]) -> np.ndarray:
    """Logits [T, V] of these probabilities, each row shifted by another constant, which changes nothing."""
    return np.array([[math.log(p) + 3.0 * step - 1.0 for p in row] for step, row in enumerate(rows)], dtype=np.float32)


def test_divergence_is_that_of_the_definition() -> None:
    """KL((1/2, 1/2) || (1/4, 3/4)) = ln 2 - ln 3 / 2; the other direction is another number."""
    half, quarter = logits_of([0.5, 0.5]), logits_of([0.25, 0.75])
    assert divergences(half, quarter).tolist() == pytest.approx([math.log(2) - math.log(3) / 2], rel=1e-6)
    assert divergences(quarter, half).tolist() == pytest.approx([0.75 * math.log(3) - math.log(2)], rel=1e-6)


def test_equal_distributions_have_no_divergence_and_near_ones_keep_their_digits() -> None:
    """For q = p (1 + e), -e on the other: KL = e^2 / 2 + ..., which float32 would round to 0."""
    policy = logits_of([0.5, 0.5], [0.9, 0.1])
    assert divergences(policy, policy + np.float32(2.0)).tolist() == [0.0, 0.0]
    exact = np.log(np.array([[0.5, 0.5]]))
    near = np.log(np.array([[0.5 * (1 + 1e-4), 0.5 * (1 - 1e-4)]]))
    assert divergences(exact, near).tolist() == pytest.approx([0.5e-8], rel=1e-3)


def test_listed_probabilities_give_the_divergence_or_less() -> None:
    """P = (1/2, 1/4, 1/4), Q = (1/4, 1/4, 1/2): ln 2 / 4. Of only the first: that of (1/2, 1/2) and (1/4, 3/4)."""
    policy = logits_of([0.5, 0.25, 0.25])[0]
    listed = {2: math.log(0.5), 0: math.log(0.25), 1: math.log(0.25)}
    assert listed_divergence(policy, listed) == pytest.approx(math.log(2) / 4, rel=1e-6)
    assert listed_divergence(policy, {0: math.log(0.25)}) == pytest.approx(math.log(2) - math.log(3) / 2, rel=1e-6)
    assert listed_divergence(policy, {0: math.log(0.5)}) == pytest.approx(0.0, abs=1e-7)


def test_a_probability_given_as_zero_is_not_infinitely_far() -> None:
    """A server writes the logarithm of a probability below the smallest float32 as -3.4e38."""
    policy = logits_of([0.5, 0.5])[0]
    assert 0.5 * 100 < listed_divergence(policy, {0: 0.0, 1: -3.4e38}) < 0.5 * 104


def test_large_logits_do_not_overflow() -> None:
    assert log_softmax(np.array([[1e4, 0.0]], dtype=np.float32)).tolist() == [[0.0, -1e4]]


def test_tokens_are_comparable_up_to_the_first_difference() -> None:
    assert comparable_tokens([7, 8, 9], [7, 8, 9]) == 3
    assert comparable_tokens([7, 8, 9], [7, 5, 9]) == 2  # the 5 was chosen after the same text; what follows was not
    assert comparable_tokens([7, 8, 9], [1, 8, 9]) == 1
    assert comparable_tokens([7, 8], [7, 8, 9]) == 2  # cut: the policy has no third token
    assert comparable_tokens([], [7]) == 0


def test_compare_stops_where_the_answers_part() -> None:
    policy = logits_of([0.5, 0.5], [0.5, 0.5], [0.5, 0.5])
    export = logits_of([0.5, 0.5], [0.25, 0.75], [0.001, 0.999])
    parted = compare([0, 0, 0], policy, [0, 1, 0], export, 0.25)
    assert not parted.same and parted.feature_error == 0.25
    assert parted.kl == pytest.approx([0.0, math.log(2) - math.log(3) / 2], rel=1e-6, abs=1e-12)
    same = compare([0, 0, 0], policy, [0, 0, 0], export, None)
    assert same.same and same.kl is not None and len(same.kl) == 3


def test_feature_error_is_relative_to_the_policy() -> None:
    """|(3, 4)| = 5, and a difference of (0, 1) is a fifth of it; scaling both changes nothing."""
    policy, export = np.array([[[3.0, 4.0]]]), np.array([[[3.0, 5.0]]])
    assert feature_error(policy, export) == pytest.approx(0.2)
    assert feature_error(10 * policy, 10 * export) == pytest.approx(0.2)
    assert feature_error(policy, policy) == 0.0


def test_other_shapes_and_empty_features_are_refused() -> None:
    features = np.ones((1, 2, 3), dtype=np.float32)
    with pytest.raises(ValueError, match=r"got features \[2, 2, 3\], expected \[1, 2, 3\]"):
        feature_error(features, np.ones((2, 2, 3)))
    with pytest.raises(ValueError, match="all zero"):
        feature_error(0 * features, features)
    with pytest.raises(ValueError, match=r"got logits \[1, 3\], expected \[1, 2\]"):
        divergences(np.zeros((1, 2)), np.zeros((1, 3)))
