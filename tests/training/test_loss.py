"""Averages of the loss, by hand."""

import pytest
import torch

from model.output_layer import OutputLayer, mean_loss
from model.processing import NO_LOSS
from training.loss import answer_weights


def test_a_token_weighs_by_the_root_of_its_answers_length() -> None:
    labels = torch.tensor([[NO_LOSS, 5, 5, 5, 5, NO_LOSS, 7], [3, NO_LOSS, 2, 2, NO_LOSS, NO_LOSS, NO_LOSS]])
    root = 2**-0.5
    assert answer_weights(labels).tolist() == [
        pytest.approx([0, 0.5, 0.5, 0.5, 0.5, 0, 1]),
        pytest.approx([1, 0, root, root, 0, 0, 0]),
    ]


def test_the_loss_is_the_weighted_sum_over_the_next_tokens() -> None:
    layer = OutputLayer(2, 8)
    with torch.no_grad():
        layer.weight.zero_()  # each next token has probability 1 / 8
        layer.weight[7, 1] = torch.log(torch.tensor(8.0))  # but token 7 after the hidden state (0, 1): 8 / 15
    hidden = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    labels = torch.tensor([[NO_LOSS, 3, NO_LOSS, 7]])
    weights = torch.tensor([[0.0, 0.5, 0.0, 2.0]])
    expected = 0.5 * torch.log(torch.tensor(8.0)) + 2 * torch.log(torch.tensor(15 / 8))
    assert mean_loss(layer, hidden, labels, weights, count=4).item() == pytest.approx(expected.item() / 4)
