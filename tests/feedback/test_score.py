import math

import pytest

from feedback.score import RULES, count_rejected, score, whole_response_score
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


def test_a_response_without_claims_is_not_scored() -> None:
    with pytest.raises(AssertionError, match="dropped, never scored"):
        score([], WHOLE, "rejected_count")
