"""Averages of the next-token loss over answers of very different lengths."""

import torch

from model.processing import NO_LOSS


def answer_weights(labels: torch.Tensor) -> torch.Tensor:
    """labels [B, T] (NO_LOSS: not learnt) -> weights [B, T] of each token: 1 / sqrt(length of the answer it is in).

    An answer is a run of learnt tokens. A mean over tokens counts answers by their length, so that a yes or no is
    nothing beside a description, and a mean over answers by their number; this lies between ("square averaging",
    InternVL 2.5, arXiv 2412.05271, section 3.3).
    """
    learnt = labels != NO_LOSS
    begins = learnt.clone()
    begins[:, 1:] &= ~learnt[:, :-1]
    answer = begins.flatten().cumsum(0).view_as(labels)[learnt]
    weights = torch.zeros(labels.shape, device=labels.device)
    weights[learnt] = torch.bincount(answer)[answer] ** -0.5
    return weights


def weighted_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """logits [B, T, V], labels and weights [B, T] -> the sum over tokens of weight times next-token loss."""
    learnt = labels[:, 1:] != NO_LOSS
    losses = torch.nn.functional.cross_entropy(logits[:, :-1][learnt].float(), labels[:, 1:][learnt], reduction="none")
    return (losses * weights[:, 1:][learnt]).sum()
