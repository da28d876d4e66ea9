"""Scores of pictures and texts, and SigLIP's sigmoid loss over them (arXiv 2303.15343, section 3.1).

Notable choices:
- a text has no encoder: it is the normalized sum of the language model's frozen word embeddings, so that patches learn
  to lie where the words for what they show are;
- a picture has no pooled vector: its score with a text is the largest cosine over its patches, so that one patch is
  enough for a small object, and patches stay different from one another;
- patches reach the word embeddings through the resampler's `kv_proj`, which keeps what it learns here, and its `ln_kv`,
  which is frozen.

In shapes, D is the width of the language model, T the number of different texts of a batch.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from model import MiniCPMVForConditionalGeneration
from model.vision import patch_mask

SCALE, BIAS = 10.0, -10.0  # at the start, as in SigLIP


def text_vectors(embeddings: torch.Tensor, texts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Word embeddings [V, D] and the token ids of each text -> normalized sums [T, D], float32."""
    offsets = torch.tensor([0, *map(len, texts)][:-1]).cumsum(0)
    ids = torch.tensor([token for text in texts for token in text])
    return F.normalize(F.embedding_bag(ids, embeddings.float(), offsets, mode="sum"), dim=-1)


def sigmoid_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """logits [B, T], labels [B, T] bool (True: the text is true of the picture) -> the sum of
    -log sigmoid(z * logit), z = 1 or -1, over all pairs, divided by B.
    """
    signs = torch.where(labels, 1.0, -1.0)
    return -F.logsigmoid(signs * logits.float()).sum() / len(logits)


def recall_of(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """scores [B, T], labels [B, T] -> the share, from 0 to 1, of true texts among the n best-scored ones of a picture
    of n true texts; the mean over pictures.
    """
    counts = labels.sum(dim=1)  # [B]
    best = scores.topk(int(counts.max()), dim=1).indices  # [B, n]
    counted = torch.arange(best.shape[1], device=best.device) < counts[:, None]
    return ((labels.gather(1, best) & counted).sum(dim=1) / counts).mean()


class TextScorer(nn.Module):
    """The parts of a model that train here, as modules of that model: its vision encoder and `kv_proj`.

    texts [T, D]: the vectors of all texts of the tables, frozen; the temperature t and the bias b of the loss are
    trained and not part of the model.
    """

    texts: torch.Tensor

    def __init__(self, model: MiniCPMVForConditionalGeneration, texts: torch.Tensor):
        super().__init__()
        self.vision_model = model.model.vision_model
        self.kv_proj, self.ln_kv = model.model.resampler.kv_proj, model.model.resampler.ln_kv
        self.ln_kv.requires_grad_(False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))
        self.score_bias = nn.Parameter(torch.tensor(BIAS))
        self.register_buffer("texts", texts, persistent=False)

    def scores(self, pixel_values: torch.Tensor, tgt_sizes: torch.Tensor, text_rows: torch.Tensor) -> torch.Tensor:
        """pixel_values [B, 3, side, P * side], tgt_sizes [B, 2], text_rows [T] (of `texts`) -> the largest cosine over
        patches [B, T].
        """
        hidden = self.vision_model(pixel_values, tgt_sizes)
        patches = F.normalize(self.ln_kv(self.kv_proj(hidden)), dim=-1)  # [B, P, D]
        cosines = patches @ self.texts[text_rows].T  # [B, P, T]
        mask = patch_mask(tgt_sizes, cosines.shape[1])
        if not mask.all():
            cosines = cosines.masked_fill(~mask[..., None], -torch.inf)
        return cosines.amax(dim=1)

    def forward(
        self, pixel_values: torch.Tensor, tgt_sizes: torch.Tensor, text_rows: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """As `scores`, with labels [B, T] -> the loss, and their recall (see `recall_of`)."""
        scores = self.scores(pixel_values, tgt_sizes, text_rows).float()
        loss = sigmoid_loss(self.log_scale.exp() * scores + self.score_bias, labels)
        return {"loss": loss, "recall": recall_of(scores.detach(), labels)}
