"""Scores and loss of the encoder's training, against numbers derived by hand."""

import math
from pathlib import Path

import pytest
import torch

from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from tests.support.tiny import load_model, noise_image
from training.encoder.pictures import Collator, Picture, strip_of
from training.encoder.scores import TextScorer, recall_of, sigmoid_loss, text_vectors


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> tuple[MiniCPMVForConditionalGeneration, MiniCPMVProcessor]:
    return load_model(tiny_model)


def test_the_loss_of_two_pictures_and_three_texts_is_that_by_hand() -> None:
    """Logits 10 * cosine - 10: 0, -5, -10 of the first picture, of which the first text is true; -10, 0, -20 of the
    second, of which the second and third are true.
    """
    cosines = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]])
    labels = torch.tensor([[True, False, False], [False, True, True]])

    def cost(logit: float) -> float:
        return math.log(1 + math.exp(-logit))  # -log sigmoid

    first = cost(0) + cost(5) + cost(10)
    second = cost(10) + cost(0) + cost(-20)
    loss = sigmoid_loss(10 * cosines - 10, labels)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)
    assert sigmoid_loss(10 * cosines - 10, ~labels).item() != pytest.approx(loss.item(), rel=1e-2)


def test_true_texts_are_found_among_as_many_of_the_best_as_are_true() -> None:
    """Of the first picture's single true text one of one is best; of the second's two, one of the two best."""
    scores = torch.tensor([[0.9, 0.1, 0.2, 0.3], [0.5, 0.6, 0.7, 0.1]])
    labels = torch.tensor([[True, False, False, False], [True, False, True, False]])
    assert recall_of(scores, labels).item() == pytest.approx((1 / 1 + 1 / 2) / 2)
    assert recall_of(-scores, labels).item() == pytest.approx((0 / 1 + 1 / 2) / 2)


def test_a_text_is_the_normalized_sum_of_its_word_embeddings() -> None:
    embeddings = torch.tensor([[3.0, 0.0], [0.0, 4.0], [-1.0, 0.0]])
    vectors = text_vectors(embeddings, [[0, 1], [2], [0, 2, 2]])
    assert torch.allclose(vectors, torch.tensor([[0.6, 0.8], [-1.0, 0.0], [1.0, 0.0]]))


def test_the_score_is_the_largest_cosine_over_the_patches_of_the_picture_and_not_of_its_padding(
    loaded: tuple[MiniCPMVForConditionalGeneration, MiniCPMVProcessor],
) -> None:
    model, processor = loaded
    images = processor.image_processor
    vectors = text_vectors(model.get_input_embeddings().weight.detach(), [[1], [2, 3], [4, 5, 6]])
    scorer = TextScorer(model, vectors)
    pictures = [
        Picture(*strip_of(noise_image(size, seed), images), [seed]) for seed, size in enumerate([(56, 56), (84, 28)])
    ]
    collate = Collator(images.norm_mean, images.norm_std)
    alone = []
    for picture in pictures:
        batch = collate([picture])
        hidden = model.model.vision_model(batch["pixel_values"], batch["tgt_sizes"])
        resampler = model.model.resampler
        patches = resampler.ln_kv(resampler.kv_proj(hidden))[0]  # [P, D]
        cosines = torch.nn.functional.cosine_similarity(patches[:, None], vectors[None], dim=-1)  # [P, T]
        alone.append(cosines.max(dim=0).values)
    batch = collate(pictures)
    assert pictures[0].pixels.shape != pictures[1].pixels.shape, "one of them is padded"
    together = scorer.scores(batch["pixel_values"], batch["tgt_sizes"], torch.arange(3))
    assert torch.allclose(together, torch.stack(alone), atol=1e-5)
    padding_counts = scorer.scores(batch["pixel_values"], torch.tensor([[4, 4], [4, 4]]), torch.arange(3))
    assert not torch.allclose(padding_counts, together, atol=1e-3)


def test_at_the_start_temperature_and_bias_are_those_of_siglip(
    loaded: tuple[MiniCPMVForConditionalGeneration, MiniCPMVProcessor],
) -> None:
    scorer = TextScorer(loaded[0], torch.eye(128))
    assert scorer.log_scale.item() == pytest.approx(math.log(10)) and scorer.score_bias.item() == -10
