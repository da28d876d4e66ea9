"""How far an export is from the policy: next tokens, answers, image features. Pure; numpy only.

Notable choices:
- next tokens are compared where both have the same text before them: at each token of the policy's answer, up to and
  with the first one at which the two answers part. What follows is the distance of two texts, not of two models;
- the divergence is KL(policy || export) in nats, over the whole vocabulary; in float64, because for a faithful export
  it is smaller than what float32 resolves;
- the error of features is relative: |export - policy| / |policy| over all features of a picture (Frobenius norm).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
LEAST = -103.0  # the logarithm of about the smallest float32, for a probability that is given as 0


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Logits [T, V] -> log-probabilities [T, V]."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    logarithms: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logarithms


def divergences(policy: Floats, export: Floats) -> npt.NDArray[np.float64]:
    """KL(policy || export) of each next token, in nats: two arrays of logits [T, V] -> [T]."""
    if policy.shape != export.shape:
        raise ValueError(f"got logits {list(export.shape)}, expected {list(policy.shape)} as of the policy")
    log_p, log_q = log_softmax(policy), log_softmax(export)
    sums: npt.NDArray[np.float64] = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    return np.maximum(sums, 0.0)  # a sum of equal distributions is 0 up to rounding


def listed_divergence(policy: Floats, listed: Mapping[int, float]) -> float:
    """KL(policy || export) of one next token, where the export gives the log-probabilities of some tokens only.

    policy: logits [V]. listed: log-probability by token id. All other tokens count as one outcome, so the result is
    at most the divergence over the whole vocabulary, and equal to it if all tokens are listed.
    """
    ids = list(listed)
    log_p = log_softmax(policy[None])[0]
    log_q = np.maximum(np.array(list(listed.values()), dtype=np.float64), LEAST)
    kl = float((np.exp(log_p[ids]) * (log_p[ids] - log_q)).sum())
    if len(ids) < len(policy):
        rest_p = float(np.exp(np.delete(log_p, ids)).sum())
        rest_q = max(1.0 - float(np.exp(log_q).sum()), float(np.exp(LEAST)))
        kl += rest_p * (np.log(max(rest_p, float(np.exp(LEAST)))) - np.log(rest_q))
    return max(kl, 0.0)


def comparable_tokens(policy: Sequence[int], export: Sequence[int]) -> int:
    """How many tokens of two answers have the same tokens before them: the first that differs is the last of them."""
    for index, (one, other) in enumerate(zip(policy, export, strict=False)):
        if one != other:
            return index + 1
    return min(len(policy), len(export))


def feature_error(policy: Floats, export: Floats) -> float:
    """Relative error of the features [S, Q, D] of a picture.

    Errors: ValueError: another shape, or a policy whose features are all zero.
    """
    if policy.shape != export.shape:
        raise ValueError(f"got features {list(export.shape)}, expected {list(policy.shape)} as of the policy")
    exact = policy.astype(np.float64)
    size = float(np.linalg.norm(exact))
    if size == 0.0:
        raise ValueError("the features of the policy are all zero; expected features of an image")
    return float(np.linalg.norm(export.astype(np.float64) - exact)) / size


@dataclass(frozen=True)
class Comparison:
    """One picture, answered by the policy and by an export.

    same: both answers have the same tokens. kl: KL of each comparable token; None where the export does not give its
    probabilities. feature_error: None where it does not give its features.
    """

    same: bool
    kl: Sequence[float] | None
    feature_error: float | None


def compare(
    policy_ids: Sequence[int],
    policy_logits: Floats,
    export_ids: Sequence[int],
    export_logits: Floats,
    error: float | None,
) -> Comparison:
    """Two answers, the token that ends them included, with the logits [T, V] of each token.

    error: that of the picture's features.
    """
    tokens = comparable_tokens(policy_ids, export_ids)
    kl = divergences(policy_logits[:tokens], export_logits[:tokens])
    return Comparison(list(policy_ids) == list(export_ids), kl.tolist(), error)
