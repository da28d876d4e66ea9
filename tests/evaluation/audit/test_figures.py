"""Figures of an audit: weights, intervals, and that they find the truth of a run that is known."""

import random

import pytest

from evaluation.audit.figures import (
    FALSE,
    FOREIGN,
    TRUE,
    UNCLEAR,
    Cell,
    claim_figures,
    pair_figures,
    people_kappa,
    reliability,
    truth_of_answers,
)


def test_strata_count_by_their_size() -> None:
    """9,000 accepted claims of which 9 in 10 are true, 1,000 rejected of which 1 in 2 is."""
    figures, intervals = claim_figures([Cell(9000, 0.95, True, 18, 2), Cell(1000, 0.2, False, 5, 5)], seed=0)
    assert figures["agreement"] == pytest.approx(0.9 * 0.9 + 0.1 * 0.5)
    assert figures["false_claims_accepted"] == pytest.approx(900 / 1400)
    assert figures["true_claims_rejected"] == pytest.approx(500 / 8600)
    assert figures["calibration_error"] == pytest.approx(0.9 * 0.05 + 0.1 * 0.3)
    assert figures["judged"] == 30 and figures["covered"] == 1.0
    low, high = intervals["agreement"] or []
    assert low < 0.86 < high and 0.1 < high - low < 0.35


def test_p_yes_as_people_see_it() -> None:
    """By p(yes), and without the stratum that nobody has judged."""
    rows = reliability([Cell(9000, 0.95, True, 18, 2, other=3), Cell(1000, 0.2, False, 5, 5), Cell(9, 0.5, True)], 0)
    assert [(row["claims"], row["mean_p_yes"], row["judged"], row["true_share"]) for row in rows] == [
        (1000, 0.2, 10, 0.5),
        (9000, 0.95, 20, 0.9),
    ]
    # the middle 95% of beta(5.5, 5.5) and beta(18.5, 2.5), by numeric integration
    assert rows[0]["interval"] == pytest.approx([0.2235, 0.7765], abs=0.02)
    assert rows[1]["interval"] == pytest.approx([0.7161, 0.9786], abs=0.02)


def test_chance_alone_is_not_called_a_calibration_error() -> None:
    """Shares as far from p(yes) as ten claims a stratum make them by chance: the interval contains 0."""
    cells = [Cell(100, 0.05, False, 1, 9), Cell(100, 0.5, True, 4, 6), Cell(100, 0.95, True, 10, 0)]
    figures, intervals = claim_figures(cells, seed=0)
    assert figures["calibration_error"] == pytest.approx((0.05 + 0.1 + 0.05) / 3)
    low, high = intervals["calibration_error"] or []
    assert low == 0.0 and 0.1 < high < 0.25
    _, intervals = claim_figures([Cell(100, 0.9, True, 20, 20)], seed=0)
    low, high = intervals["calibration_error"] or []
    assert 0.2 < low < 0.4 < high < 0.6


def test_an_extreme_calibration_error_has_an_interval_too() -> None:
    """Three claims that are all true, where p(yes) is 0.05: beta(3.5, 0.5) has its 2.5% quantile at 0.467."""
    figures, intervals = claim_figures([Cell(100, 0.05, False, 3, 0)], seed=0)
    assert figures["calibration_error"] == pytest.approx(0.95)
    assert intervals["calibration_error"] == pytest.approx([0.417, 0.95], abs=0.02)


def test_certainty_is_not_claimed_from_a_few() -> None:
    figures, intervals = claim_figures([Cell(1000, 1.0, True, 10, 0)], seed=0)
    assert (figures["agreement"] == 1.0 and figures["false_claims_accepted"] == 0.0) or figures["kappa"] is None
    low, high = intervals["agreement"] or []
    assert 0.7 < low < 0.85 and high == 1.0
    assert intervals["cannot_tell"] is not None and intervals["cannot_tell"][0] == 0.0


def test_what_nobody_has_judged_is_said() -> None:
    cells = [Cell(750, 0.9, True, 3, 1, other=1), Cell(250, 0.1, False, other=2, foreign=2)]
    figures, _ = claim_figures(cells, seed=0)
    assert figures["covered"] == 0.75
    assert figures["cannot_tell"] == pytest.approx(0.75 * 0.2 + 0.25 * 0.5)
    assert figures["not_of_its_response"] == pytest.approx(0.25 * 0.5)
    empty, intervals = claim_figures([Cell(10, 0.5, True)], seed=0)
    assert empty["agreement"] is None and intervals["agreement"] is None and empty["covered"] == 0.0


def test_pairs_are_weighted_too() -> None:
    figures, intervals = pair_figures([(900, 8, 1, 1), (100, 1, 1, 0), (50, 0, 0, 0)], seed=0)
    assert figures == {
        "pair_agreement": pytest.approx(0.9 * 0.8 + 0.1 * 0.5),
        "pair_ties": pytest.approx(0.9 * 0.1),
        "pairs_judged": 12,
    }
    assert intervals["pair_agreement"] is not None


def test_the_interval_finds_the_truth() -> None:
    """Fifty audits of a run of known truth: their 95% intervals contain it about as often."""
    rng, found = random.Random(0), 0
    shares, sizes = (0.98, 0.7, 0.05), (6000, 1000, 3000)
    truth = (6000 * 0.98 + 1000 * 0.7 + 3000 * 0.95) / 10000
    for audit in range(50):
        cells = []
        for index, (share, size) in enumerate(zip(shares, sizes, strict=True)):
            true = sum(rng.random() < share for _ in range(30))
            cells.append(Cell(size, share, index < 2, true, 30 - true))
        _, intervals = claim_figures(cells, seed=audit)
        low, high = intervals["agreement"] or []
        found += low <= truth <= high
    assert 43 <= found <= 50


def test_most_people_decide_and_a_tie_decides_nothing() -> None:
    assert truth_of_answers([TRUE, FALSE, TRUE]) == TRUE
    assert truth_of_answers([FOREIGN]) == FOREIGN
    assert truth_of_answers([TRUE, FALSE]) is None
    assert truth_of_answers([UNCLEAR, UNCLEAR, TRUE]) == UNCLEAR


def test_people_who_say_the_same_have_kappa_one() -> None:
    weights = {"a": 10.0, "b": 1.0, "c": 1.0}
    same = {"a": {"x": TRUE, "y": TRUE}, "b": {"x": FALSE, "y": FALSE}, "c": {"x": UNCLEAR, "y": TRUE}}
    assert people_kappa(same, weights) == pytest.approx(1.0)
    other = same | {"b": {"x": FALSE, "y": TRUE}, "c": {"x": TRUE, "y": FALSE}}
    assert people_kappa(other, weights) == pytest.approx((10 / 12 - (11 * 11 + 1) / 144) / (1 - (11 * 11 + 1) / 144))
    assert people_kappa({"a": {"x": TRUE}}, weights) is None
