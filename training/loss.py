"""Averages of the next-token loss over answers of very different lengths."""

from typing import Any

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


def weighted_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """logits [B, T, V], labels and weights [B, T] -> the sum over tokens of weight times next-token loss."""
    labeled = labels[:, 1:] != NO_LOSS
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1][labeled].float(), labels[:, 1:][labeled], reduction="none"
    )
    return (losses * weights[:, 1:][labeled]).sum()


def square_averaged(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    """Trainer's `compute_loss_func`. num_items_in_batch: the sum of `answer_weights` over all batches of a step."""
    return weighted_loss(outputs.logits, labels, answer_weights(labels)) / num_items_in_batch
