"""Score: the verdicts on the claims of a response become one number, higher is better. Pure.

| rule              | score                                 |                                                       |
|-------------------|---------------------------------------|-------------------------------------------------------|
| rejected_count    | -(rejected claims)                    | RLAIF-V, arXiv 2405.17220; the default                |
| rejected_share    | -(rejected claims) / claims           | does not reward short responses                       |
| expected_rejected | -(sum of p_no / (p_yes + p_no))       | the count that a calibrated labeler expects; with     |
|                   |                                       | `feedback.min_margin` unsure verdicts do not decide   |
| mean_log_odds     | mean over claims of ln(p_yes / p_no)  | uses the labeler's confidence; fewer ties             |
| whole_response    | p_yes - p_no of the whole response    | the baseline that claims must beat                    |

The score is that of the verified claims. Whatever is true of the unknown ones, the score over all claims is between
`score_bounds`: every rule falls as a verdict falls, so the bounds are the scores with all of them rejected and accepted
with certainty.
"""

import math
from collections.abc import Callable, Sequence

from feedback.verify import Verdict

# Bounds the log-odds of a claim to +-13.8, so that one confident verdict does not dominate the mean.
_SMALLEST_P = 1e-6
_REJECTED, _ACCEPTED = Verdict(0.0, 1.0), Verdict(1.0, 0.0)


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


def score(verdicts: Sequence[Verdict], whole: Verdict | None, rule: str) -> float:
    """The score of a response from the verdicts on its claims (at least one) and on the response as a whole.

    whole: None if the labeler could not take that request; `whole_response` needs it.
    """
    assert verdicts, "a response without verified claims is dropped, never scored"
    if rule == "whole_response":
        assert whole, "a response that this rule cannot score is dropped"
        return whole_response_score(whole)
    return RULES[rule](verdicts)


def score_bounds(
    verdicts: Sequence[Verdict], num_unknown: int, whole: Verdict | None, rule: str
) -> tuple[float, float]:
    """The lowest and highest score, given claims without a verdict; equal to `score` where there is none."""
    low, high = ([*verdicts, *[verdict] * num_unknown] for verdict in (_REJECTED, _ACCEPTED))
    return score(low, whole, rule), score(high, whole, rule)


def whole_response_score(verdict: Verdict) -> float:
    return verdict.p_yes - verdict.p_no
