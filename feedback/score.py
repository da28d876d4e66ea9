"""Score: the verdicts on the claims of a response become one number, higher is better. Pure.

| rule              | score                                 |                                                       |
|-------------------|---------------------------------------|-------------------------------------------------------|
| rejected_count    | -(rejected claims)                    | RLAIF-V, arXiv 2405.17220; the default                |
| rejected_share    | -(rejected claims) / claims           | does not reward short responses                       |
| expected_rejected | -(sum of p_no / (p_yes + p_no))       | the count that a calibrated labeler expects; with     |
|                   |                                       | `feedback.min_margin` unsure verdicts do not decide   |
| mean_log_odds     | mean over claims of ln(p_yes / p_no)  | uses the labeler's confidence; fewer ties             |
| whole_response    | p_yes - p_no of the whole response    | the baseline that claims must beat                    |
"""

import math
from collections.abc import Callable, Sequence

from feedback.verify import Verdict

# Bounds the log-odds of a claim to +-13.8, so that one confident verdict does not dominate the mean.
_SMALLEST_P = 1e-6


def count_rejected(verdicts: Sequence[Verdict]) -> int:
    return sum(not verdict.accepted for verdict in verdicts)


def rejected_count(verdicts: Sequence[Verdict]) -> float:
    return float(-count_rejected(verdicts))


def rejected_share(verdicts: Sequence[Verdict]) -> float:
    return -count_rejected(verdicts) / len(verdicts)


def expected_rejected(verdicts: Sequence[Verdict]) -> float:
    return -math.fsum(v.p_no / max(v.p_yes + v.p_no, _SMALLEST_P) for v in verdicts)


def mean_log_odds(verdicts: Sequence[Verdict]) -> float:
    # fsum does not depend on the order of the claims: without it a tie could become a preference of 1e-17.
    return math.fsum(math.log(max(v.p_yes, _SMALLEST_P) / max(v.p_no, _SMALLEST_P)) for v in verdicts) / len(verdicts)


RULES: dict[str, Callable[[Sequence[Verdict]], float]] = {
    "rejected_count": rejected_count,
    "rejected_share": rejected_share,
    "expected_rejected": expected_rejected,
    "mean_log_odds": mean_log_odds,
}


def score(verdicts: Sequence[Verdict], whole: Verdict, rule: str) -> float:
    """The score of a response from the verdicts on its claims (at least one) and on the response as a whole."""
    assert verdicts, "a response without claims is dropped, never scored"
    return whole_response_score(whole) if rule == "whole_response" else RULES[rule](verdicts)


def whole_response_score(verdict: Verdict) -> float:
    return verdict.p_yes - verdict.p_no
