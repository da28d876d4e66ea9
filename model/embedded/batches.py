"""Batches for the embedded models: a row holds an image once and several branches about it, kept apart by a mask.

A row is [prefix | branch 1 | branch 2 | ...]; the positions of every branch go on from the prefix, and a token sees the
prefix and its own branch only. So a branch has exactly the logits it would have alone, and the image is encoded once
for all of them.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from model.embedded.tasks import Branch
from model.image_processing import pack_slices
from model.processing import MiniCPMVProcessor

Row = tuple[Image.Image | None, list[Branch]]
KINDS = {"text": 1, "lookup": 2, "verdict": 3}  # of a branch's answer; 0: no part of an answer


@dataclass
class Encoded:
    """Token ids of a row with, for each token, its position, its branch (0: prefix) and its kind (see
    KINDS).
    """

    ids: list[int]
    positions: list[int]
    branches: list[int]
    kinds: list[int]


class RowEncoder:
    """Turns rows into tensors with the processor's own chat template and tokenisation."""

    def __init__(self, processor: MiniCPMVProcessor):
        self.processor = processor
        self.prefix = {has_image: self.common_prefix(has_image) for has_image in (False, True)}

    def common_prefix(self, has_image: bool) -> list[int]:
        first, second = (self.processor.encode_turn(letter, has_image) for letter in "ab")
        same = next(index for index, (left, right) in enumerate(zip(first, second, strict=True)) if left != right)
        return first[:same]

    def encode(self, image: Image.Image | None, branches: Sequence[Branch]) -> Encoded:
        has_image = image is not None
        prefix = self.prefix[has_image]
        ids = self.processor.expand(prefix, [image.size] if image is not None else [])
        start = len(ids)
        row = Encoded(ids, list(range(start)), [0] * start, [0] * start)
        for number, branch in enumerate(branches, start=1):
            prompt = self.processor.encode_turn(branch.prompt, has_image)[len(prefix) :]
            answer = self.processor.encode_answer(branch.answer)
            kind = KINDS[branch.kind]
            row.ids += prompt + answer
            row.positions += range(start, start + len(prompt) + len(answer))
            row.branches += [number] * (len(prompt) + len(answer))
            row.kinds += [0] * len(prompt) + [kind] * len(answer)
        return row

    def batch(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Rows -> input_ids, position_ids, branches, kinds [B, T] (padding: branch -1), and the images' pixel_values
        and tgt_sizes.
        """
        encoded = [self.encode(image, branches) for image, branches in rows]

        def padded(values: list[list[int]], fill: int) -> torch.Tensor:
            return pad_sequence([torch.tensor(value) for value in values], batch_first=True, padding_value=fill)

        batch = {
            "input_ids": padded([row.ids for row in encoded], self.processor.tokenizer.pad_token_id),
            "position_ids": padded([row.positions for row in encoded], 0),
            "branches": padded([row.branches for row in encoded], -1),
            "kinds": padded([row.kinds for row in encoded], 0),
        }
        images = [image for image, _ in rows if image is not None]
        if images:
            features = self.processor.image_processor([[image] for image in images])
            batch["pixel_values"] = pack_slices([row for slices in features["pixel_values"] for row in slices])
            batch["tgt_sizes"] = torch.cat(features["tgt_sizes"])
        return batch


def branch_mask(branches: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """branches [B, T] -> additive attention mask [B, 1, T, T]: causal, prefix and own branch only; padding sees
    itself, so that no row is empty.
    """
    length = branches.shape[1]
    query, key = branches.unsqueeze(2), branches.unsqueeze(1)
    causal = torch.ones(length, length, dtype=torch.bool, device=branches.device).tril()
    seen = causal & ((key == 0) | (key == query))
    return (
        torch.zeros(seen.shape, dtype=dtype, device=branches.device)
        .masked_fill(~seen, torch.finfo(dtype).min)
        .unsqueeze(1)
    )


class StepData(Dataset):
    """Step number -> its batch. Every step is seeded by its number alone, so a training that stops goes on as if it
    had not.
    """

    def __init__(
        self, encoder: RowEncoder, rows: Callable[[random.Random, int], list[Row]], name: str, seed: int, steps: int
    ):
        self.encoder, self.rows, self.name, self.seed, self.steps = encoder, rows, name, seed, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        return self.encoder.batch(self.rows(random.Random(f"{self.name}/{self.seed}/{step}"), step))
