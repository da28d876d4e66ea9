import math
from itertools import product

import pytest

from feedback.score import RULES, count_rejected, score, score_bounds, whole_response_score
from feedback.verify import Verdict
from rlaif.config import FeedbackSection

VERDICTS = [Verdict(0.9, 0.1), Verdict(0.2, 0.6), Verdict(0.5, 0.25), Verdict(0.3, 0.3)]  # accepted, no, accepted, no
WHOLE = Verdict(0.7, 0.2)


def test_every_rule_by_hand() -> None:
    assert count_rejected(VERDICTS) == 2
    assert score(VERDICTS, WHOLE, "rejected_count") == -2.0
    assert score(VERDICTS, WHOLE, "rejected_share") == -0.5
    assert score(VERDICTS, WHOLE, "expected_rejected") == pytest.approx(-(0.1 + 0.75 + 1 / 3 + 0.5))
    # ln 9 + ln 1/3 + ln 2 + ln 1 = ln 6
    assert score(VERDICTS, WHOLE, "mean_log_odds") == pytest.approx(math.log(6) / 4)


def test_a_response_without_rejected_claims_scores_zero() -> None:
    assert score(VERDICTS[:1], WHOLE, "rejected_count") == 0.0
    assert score(VERDICTS[:1], WHOLE, "rejected_share") == 0.0


def test_log_odds_are_bounded_and_do_not_depend_on_order() -> None:
    assert score([Verdict(1.0, 0.0)], WHOLE, "mean_log_odds") == pytest.approx(math.log(1e6))
    thirds = [Verdict(0.1, 0.7), Verdict(0.2, 0.3), Verdict(0.9, 0.05)]
    assert score(thirds, WHOLE, "mean_log_odds") == score(thirds[::-1], WHOLE, "mean_log_odds")


def test_whole_response_score_by_hand() -> None:
    assert score(VERDICTS, WHOLE, "whole_response") == whole_response_score(WHOLE) == pytest.approx(0.5)


def test_config_allows_exactly_these_rules() -> None:
    for rule in (*RULES, "whole_response"):
        assert FeedbackSection(score=rule).score == rule
    with pytest.raises(ValueError, match="rejected_count"):
        FeedbackSection(score="best")


@pytest.mark.parametrize("rule", [*RULES, "whole_response"])
def test_bounds_without_unknown_claims_are_the_score(rule: str) -> None:
    assert score_bounds(VERDICTS, 0, WHOLE, rule) == (score(VERDICTS, WHOLE, rule),) * 2


@pytest.mark.parametrize(
    ("rule", "low", "high"),
    [
        ("rejected_count", -4.0, -2.0),  # both unknown claims rejected; none of them
        ("rejected_share", -4 / 6, -2 / 6),
        ("expected_rejected", -(0.1 + 0.75 + 1 / 3 + 0.5) - 2, -(0.1 + 0.75 + 1 / 3 + 0.5)),
        # the verified claims sum to ln 6; each unknown one adds -ln 1e6 or +ln 1e6
        ("mean_log_odds", (math.log(6) - 2 * math.log(1e6)) / 6, (math.log(6) + 2 * math.log(1e6)) / 6),
        ("whole_response", 0.5, 0.5),
    ],
)
def test_bounds_by_hand(rule: str, low: float, high: float) -> None:
    assert score_bounds(VERDICTS, 2, WHOLE, rule) == pytest.approx((low, high))
    if rule != "whole_response":
        assert score_bounds(VERDICTS, 2, None, rule) == pytest.approx((low, high))


@pytest.mark.parametrize("rule", [*RULES, "whole_response"])
def test_the_score_over_all_claims_is_between_the_bounds_whatever_the_unknown_ones_are(rule: str) -> None:
    """For every verdict of a grid on each of two unknown claims, and if one or both are not claims at all."""
    low, high = score_bounds(VERDICTS, 2, WHOLE, rule)
    grid = [Verdict(yes / 4, no / 4) for yes in range(5) for no in range(5 - yes)]
    for number in range(3):
        for unknown in product(grid, repeat=number):
            assert low - 1e-12 <= score([*VERDICTS, *unknown], WHOLE, rule) <= high + 1e-12
    assert score([*VERDICTS, Verdict(0.0, 1.0), Verdict(0.0, 1.0)], WHOLE, rule) == low, "no tighter bound is right"
    assert score([*VERDICTS, Verdict(1.0, 0.0), Verdict(1.0, 0.0)], WHOLE, rule) == high


def test_a_response_without_claims_is_not_scored() -> None:
    with pytest.raises(AssertionError, match="dropped, never scored"):
        score([], WHOLE, "rejected_count")
