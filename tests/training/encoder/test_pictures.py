"""Pictures of the encoder's tables: their pixels, their order, their batches, their start."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from model import MiniCPMVProcessor
from rlaif.errors import ConfigError
from tests.support.captions.squares import encoded, square_rows, write_table
from tests.support.tiny import load_model, noise_image
from training.encoder.pictures import Collator, Pictures, SimilarSizes, normalized
from training.encoder.whitening import split_strip, whiten_patches


@pytest.fixture(scope="module")
def processor(tiny_model: Path) -> MiniCPMVProcessor:
    processor: MiniCPMVProcessor = MiniCPMVProcessor.from_pretrained(tiny_model)
    return processor


@pytest.fixture(scope="module")
def squares(processor: MiniCPMVProcessor, tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return Pictures([write_table(tmp_path_factory.mktemp("squares") / "squares.parquet", square_rows())], processor)


def test_a_batch_has_the_pixels_of_the_image_processor_and_a_column_for_each_text(
    tiny_model: Path, tmp_path: Path
) -> None:
    processor = MiniCPMVProcessor.from_pretrained(tiny_model)
    images = [noise_image((56, 56), 0), noise_image((200, 90), 1)]
    texts = [["red star", "the star", "red star"], ["a blue circle", "the star"]]
    rows = [{"image": encoded(image), "texts": row} for image, row in zip(images, texts, strict=True)]
    pictures = Pictures([write_table(tmp_path / "table.parquet", rows)], processor)
    settings = processor.image_processor
    batch = Collator(settings.norm_mean, settings.norm_std)([pictures[0], pictures[1]])
    settings.slice_mode = False
    for index, image in enumerate(images):
        (strip,), sizes = settings.slice(image)
        assert torch.allclose(batch["pixel_values"][index, :, :, : strip.shape[2]], strip, atol=1e-6)
        assert torch.equal(batch["tgt_sizes"][index], sizes[0])
    assert batch["labels"].tolist() == [[True, True, False], [False, True, True]]
    ids = [pictures.texts.ids[row] for row in batch["text_rows"].tolist()]
    assert ids == [processor.encode_text(text) for text in (" red star", " the star", " a blue circle")]


def test_each_epoch_has_every_picture_once_in_batches_of_similar_sizes(squares: Pictures) -> None:
    sampler = SimilarSizes(squares, batch_size=10, seed=0)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    first, second, again = orders
    assert sorted(first) == sorted(second) == list(range(144)) and first == again != second
    batches = [{int(sampler.patches[index]) for index in first[start : start + 10]} for start in range(0, 140, 10)]
    kinds = len(set(sampler.patches.tolist()))
    assert kinds > 1 and sum(len(batch) > 1 for batch in batches) < kinds
    assert list(SimilarSizes(squares, 10, seed=1)) != first


def test_whitened_patches_are_centered_uncorrelated_and_as_large_as_one_another(
    squares: Pictures, tiny_model: Path, processor: MiniCPMVProcessor
) -> None:
    """Pictures of flat squares have few components; all outputs have a standard deviation of 1 together."""
    model, _ = load_model(tiny_model)
    vision, images = model.model.vision_model, processor.image_processor
    tiles = torch.cat([split_strip(torch.from_numpy(picture.pixels), 14) for picture in squares.pictures])
    patches = normalized(tiles, images.norm_mean, images.norm_std)

    def outputs() -> torch.Tensor:
        embedded: torch.Tensor = vision.embeddings.patch_embedding(patches).flatten(1).detach()
        return embedded

    before = outputs()
    assert before.mean(dim=0).abs().max() > 0.05, "the random start is not centered"
    whiten_patches(vision, squares, images.norm_mean, images.norm_std, seed=0)
    after = outputs()
    assert after.mean(dim=0).abs().max() < 1e-3 and after.std().item() == pytest.approx(1, abs=0.02)
    covariance = torch.cov(after.T)
    assert (covariance - covariance.diag().diag()).abs().max() < 0.02 * covariance.diag().max()
    unwhitened = torch.cov(patches.flatten(1).T)
    eigenvalues = torch.linalg.eigvalsh(unwhitened).flip(0)
    strongest = covariance.diag()[:3]
    assert strongest.max() / strongest.min() < 1.5 < eigenvalues[0] / eigenvalues[2]


def test_patches_that_are_all_equal_cannot_be_whitened(
    tiny_model: Path, processor: MiniCPMVProcessor, tmp_path: Path
) -> None:
    """Their components would be divided by zero, and every weight would be NaN."""
    rows = [{"image": encoded(Image.new("RGB", (56, 56), "gray")), "texts": ["nothing"]}] * 2
    pictures = Pictures([write_table(tmp_path / "gray.parquet", rows)], processor)
    vision = load_model(tiny_model)[0].model.vision_model
    with pytest.raises(ConfigError, match="all 32 patches of a sample of the pictures are equal"):
        whiten_patches(vision, pictures, [0.5] * 3, [0.5] * 3, seed=0)


def test_patches_of_a_wider_encoder_cannot_be_whitened(
    squares: Pictures, tiny_model: Path, processor: MiniCPMVProcessor
) -> None:
    vision = load_model(tiny_model)[0].model.vision_model
    vision.embeddings.patch_embedding = torch.nn.Conv2d(3, 589, 14, stride=14)
    with pytest.raises(ConfigError, match="a width of 589, and a patch only 588 values; set whiten_patches to false"):
        whiten_patches(vision, squares, [0.5] * 3, [0.5] * 3, seed=0)
