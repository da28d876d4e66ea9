"""Weights of tokens in the mean of the next-token loss over answers of very different lengths."""

import torch

from model.processing import NO_LOSS


def answer_weights(labels: torch.Tensor) -> torch.Tensor:
    """labels [B, T] -> weights [B, T]: 1 / sqrt(length of the answer that the token is in), 0 for NO_LOSS.

    An answer is a run of labels. A mean over tokens weighs answers by their length, so that yes and no hardly count
    beside a description; a mean over answers weighs all alike; this lies in between ("square averaging", InternVL 2.5,
    arXiv 2412.05271, section 3.3).
    """
    labeled = labels != NO_LOSS
    begins = labeled.clone()
    begins[:, 1:] &= ~labeled[:, :-1]
    answer = begins.flatten().cumsum(0).view_as(labels)[labeled]
    weights = torch.zeros(labels.shape, device=labels.device)
    weights[labeled] = torch.bincount(answer)[answer] ** -0.5
    return weights
