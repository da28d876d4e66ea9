"""A start for the patch embedding of an untrained encoder: the whitened principal components of patches.

The patches of a world of few colors and shapes differ in few directions; a random projection spends its outputs on
brightness. Whitened components have about the same standard deviation each, so every direction can be read at once.
"""

from collections.abc import Sequence

import torch

from model.vision import VisionModel
from rlaif.errors import ConfigError
from training.encoder.pictures import Pictures, normalized

SAMPLE = 2000  # pictures
NOISE = 1e-2  # added to eigenvalues, as a share of the mean of those kept: weaker components stay weaker


@torch.no_grad()
def whiten_patches(
    vision: VisionModel, pictures: Pictures, mean: Sequence[float], std: Sequence[float], seed: int
) -> None:
    """Set the patch embedding: row i is eigenvector i / sqrt(eigenvalue i + noise) of the covariance of patches, all
    scaled so that outputs have a standard deviation of 1 over a sample of pictures; the bias centers them.

    Errors: ConfigError if the encoder is wider than a patch has values, or all patches of the sample are equal.
    """
    embedding = vision.embeddings.patch_embedding
    width, _, side, _ = embedding.weight.shape
    values = embedding.weight[0].numel()
    if width > values:
        raise ConfigError(
            f"whiten_patches is true, but the encoder has a width of {width}, and a patch only {values} values; set "
            "whiten_patches to false"
        )
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randperm(len(pictures), generator=generator)[:SAMPLE].tolist()
    tiles = torch.cat([split_strip(torch.from_numpy(pictures[index].pixels), side) for index in sample])
    if tiles.eq(tiles[0]).all():
        raise ConfigError(
            f"whiten_patches is true, but all {len(tiles):,} patches of a sample of the pictures are equal and have no "
            "components; correct the pictures of `data`, or set whiten_patches to false"
        )
    patches = normalized(tiles, mean, std).flatten(1)  # [n, values]
    center = patches.mean(dim=0)
    eigenvalues, vectors = torch.linalg.eigh(torch.cov(patches.T))  # ascending
    kept = eigenvalues[-width:].flip(0).clamp(min=0)
    rows = vectors[:, -width:].flip(1).T / (kept + NOISE * kept.mean()).sqrt()[:, None]  # [width, values]
    rows = rows / ((patches - center) @ rows.T).std()
    embedding.weight.copy_(rows.reshape(embedding.weight.shape))
    assert embedding.bias is not None
    embedding.bias.copy_(-rows @ center)


def split_strip(strip: torch.Tensor, side: int) -> torch.Tensor:
    """[3, side, P * side] -> patches [P, 3, side, side], as the weights of the embedding."""
    return strip.unfold(2, side, side).permute(2, 0, 1, 3)
