"""Two labelers against people: weights, the change with its interval, claims that the second one cannot take."""

from collections import Counter

import pytest

from evaluation.audit.figures import Cell, claim_figures
from evaluation.audit.two_labelers import Stratum, compare, count_strata

STRATA = [
    Stratum(True, 9000, Counter({(True, True): 17, (True, False): 1, (False, True): 1, (False, False): 1})),
    Stratum(False, 1000, Counter({(True, True): 4, (True, False): 1, (False, False): 5})),
]


def test_figures_of_both_by_hand() -> None:
    """9,000 accepted claims: 18 of 20 are true; 1,000 rejected: 5 of 10 are. So 8,600 of 10,000 are true."""
    figures, intervals = compare(STRATA, seed=0)
    assert figures["first agreement"] == pytest.approx(0.9 * 0.9 + 0.1 * 0.5)
    assert figures["second agreement"] == pytest.approx(0.9 * 18 / 20 + 0.1 * 9 / 10)
    assert figures["change"] == pytest.approx(0.04)
    assert figures["first false_claims_accepted"] == pytest.approx(900 / 1400)
    assert figures["second false_claims_accepted"] == pytest.approx(9000 / 20 / 1400)
    assert figures["second true_claims_rejected"] == pytest.approx((9000 / 20 + 1000 / 10) / 8600)
    low, high = intervals["change"] or []
    assert -0.15 < low < 0.0 < high < 0.2


def test_intervals_are_those_of_the_audit() -> None:
    """The first labeler's do not depend on what the second one says."""
    _, intervals = compare(STRATA, seed=0)
    _, expected = claim_figures([Cell(9000, 0.9, True, 18, 2), Cell(1000, 0.1, False, 5, 5)], seed=0)
    for name in ("agreement", "kappa", "false_claims_accepted", "true_claims_rejected"):
        assert intervals[f"first {name}"] == pytest.approx(expected[name], abs=0.02)


def test_two_that_say_the_same_do_not_differ() -> None:
    strata = [Stratum(True, 10, Counter({(True, True): 90, (False, True): 10}))]
    figures, intervals = compare(strata, seed=0)
    assert figures["change"] == 0.0 and figures["first agreement"] == figures["second agreement"] == 0.9
    low, high = intervals["change"] or []
    assert -0.05 < low < high < 0.05


def test_claims_that_the_second_one_cannot_take() -> None:
    claims = [
        ("a", 10.0, True, True, True),
        ("a", 10.0, False, True, None),  # the other one of its stratum stands for it
        ("b", 5.0, True, False, None),
    ]
    assert count_strata(claims) == [Stratum(True, 20.0, Counter({(True, True): 1}))]
