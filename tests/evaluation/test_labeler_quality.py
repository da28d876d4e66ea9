"""Figures of the labeler against numbers worked out by hand."""

from evaluation.labeler_quality import claim_counts, claim_figures, pair_counts, pair_figures, reorder_pairs
from evaluation.statistics import total


def test_unreadable_claims_count_as_wrong() -> None:
    verdicts = [
        (True, True),
        (True, True),
        (False, True),
        (False, False),
        (True, False),
        (True, None),
        (False, None),
        (False, False),
    ]
    assert claim_figures(total(claim_counts(*pair) for pair in verdicts)) == {
        "claim_accuracy": 4 / 8,
        "false_claims_accepted": 1 / 3,
        "true_claims_rejected": 1 / 3,
        "claims": 8,
        "claims_unreadable": 2,
    }
    assert claim_figures(total([]))["claim_accuracy"] is None


def test_ties_count_against_pair_agreement() -> None:
    false_mentions = {"a": 0, "b": 1, "c": 1, "d": 3}
    pairs = [("a", "b"), ("b", "d"), ("b", "c"), ("d", "a")]
    counts = [pair_counts(pair, false_mentions, "run") for pair in pairs]
    counts.append(pair_counts(("d", "a"), false_mentions, "other"))
    assert pair_figures(total(counts), "run") == {"agreement": 2 / 4, "ties": 1 / 4, "pairs": 4}
    assert pair_figures(total(counts), "other") == {"agreement": 0.0, "ties": 0.0, "pairs": 1}
    assert pair_figures(total([]), "run")["agreement"] is None


def test_reordering_turns_pairs_and_skips_equal_scores() -> None:
    pairs = [("a", "b"), ("b", "c"), ("c", "d")]
    assert reorder_pairs(pairs, {"a": 0.1, "b": 0.5, "c": 0.2, "d": 0.2}) == [("b", "a"), ("b", "c")]
