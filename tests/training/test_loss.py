"""Averages of the loss, by hand."""

import pytest
import torch

from model.processing import NO_LOSS
from training.loss import answer_weights, weighted_loss


def test_a_token_weighs_by_the_root_of_its_answers_length() -> None:
    labels = torch.tensor([[NO_LOSS, 5, 5, 5, 5, NO_LOSS, 7], [3, NO_LOSS, 2, 2, NO_LOSS, NO_LOSS, NO_LOSS]])
    root = 2**-0.5
    assert answer_weights(labels).tolist() == [
        pytest.approx([0, 0.5, 0.5, 0.5, 0.5, 0, 1]),
        pytest.approx([1, 0, root, root, 0, 0, 0]),
    ]


def test_the_loss_is_the_weighted_sum_over_the_next_tokens() -> None:
    logits = torch.zeros(1, 4, 8)  # each next token has probability 1 / 8
    logits[0, 2, 7] = torch.log(torch.tensor(8.0))  # but token 7 there: 8 / 15
    labels = torch.tensor([[NO_LOSS, 3, NO_LOSS, 7]])
    weights = torch.tensor([[0.0, 0.5, 0.0, 2.0]])
    expected = 0.5 * torch.log(torch.tensor(8.0)) + 2 * torch.log(torch.tensor(15 / 8))
    assert weighted_loss(logits, labels, weights) == pytest.approx(expected.item())
