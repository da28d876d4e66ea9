"""Rows of `pairs` -> a batch for TRL's DPOTrainer.

MiniCPM-V has its own collator, because TRL's sends every image twice, for the chosen and for the rejected answer,
and truncates whole sequences, so that a long image prompt leaves no answer. Here an image enters a batch once per pair:
the model either computes the prompt once (`prefix_lengths`) or repeats the image features (`image_repeats`), and only
answers are cut. Other models use TRL's collator, without truncation. Images are decoded batch by batch.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers import ProcessorMixin

from dpo.trl_private import DataCollatorForVisionPreference
from model import MiniCPMVProcessor
from model.image_processing import pack_slices
from model.images import open_image
from model.processing import with_images
from rlaif.text import break_special_tokens, special_tokens

Row = dict[str, Any]


class Collator(Protocol):
    """The collator of a model."""

    @property
    def processor(self) -> ProcessorMixin: ...

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """B rows with images, prompt, chosen, rejected -> a batch of 2B sequences, chosen first."""

    def unusable(self, row: Row) -> tuple[str, str] | None:
        """Why a pair cannot be trained on, as (reason, detail); None: it can."""


def open_images(row: Row) -> list[Image.Image]:
    return [open_image(image["bytes"]) for image in row["images"]]


@dataclass
class PairCollator:
    """B rows with images, prompt, chosen, rejected -> a batch of 2B sequences, chosen first.

    Args:
        max_answer_tokens: longest answer, with its end token; None: no limit.
        max_length: longest sequence; an answer is cut to what its prompt leaves. Rows whose prompt leaves nothing must
            be dropped before (see `unusable`). None: no limit.
        shared_prefix: the model computes each prompt once for both answers.
        end_token: answers are whole; False: they are cut within a response, and have no end token.
    """

    processor: MiniCPMVProcessor
    max_answer_tokens: int | None = None
    max_length: int | None = None
    shared_prefix: bool = False
    end_token: bool = True

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """
        Returns:
            input_ids, attention_mask, completion_mask [2B, T]: rows r and B + r are one pair, the completion is the
            answer with its end token. With images also pixel_values [N, 3, P, Lmax*P] and tgt_sizes [N, 2]
            over the slices of the B prompts. With shared_prefix also prefix_lengths [B], otherwise, with images,
            image_repeats = 2.
        """
        images = [open_images(row) for row in rows]
        prompts = [self.encode_prompt(row, row_images) for row, row_images in zip(rows, images, strict=True)]
        sequences, completions = [], []
        for side in ("chosen", "rejected"):
            for row, prompt in zip(rows, prompts, strict=True):
                answer = self.encode_answer(row, side, len(prompt))
                sequences.append(torch.tensor(prompt + answer))
                completions.append(torch.tensor([0] * len(prompt) + [1] * len(answer)))
        batch: dict[str, Any] = self.processor.pad(sequences)
        batch["completion_mask"] = pad_sequence(completions, batch_first=True)
        if any(images):
            features = self.processor.image_processor(images)
            batch["pixel_values"] = pack_slices([item for slices in features["pixel_values"] for item in slices])
            batch["tgt_sizes"] = torch.cat(features["tgt_sizes"])
        if self.shared_prefix:
            batch["prefix_lengths"] = torch.tensor([len(prompt) for prompt in prompts])
        elif any(images):
            batch["image_repeats"] = 2
        return batch

    def encode_prompt(self, row: Row, images: Sequence[Image.Image]) -> list[int]:
        """The token ids of generation: images precede the text of the first user turn, as with TRL."""
        messages = with_images(row["prompt"], len(images))
        ids: list[int] = self.processor.expand(self.processor.encode_chat(messages), [image.size for image in images])
        return ids

    def encode_answer(self, row: Row, side: str, prompt_length: int) -> list[int]:
        """The token ids of one answer, cut to its limits; a cut answer lacks its end token."""
        (message,) = row[side]
        ids: list[int] = self.processor.encode_answer(message["content"])
        ids = ids if self.end_token else ids[:-1]
        if self.max_length is not None:
            ids = ids[: self.max_length - prompt_length]
        return ids[: self.max_answer_tokens]

    def unusable(self, row: Row) -> tuple[str, str] | None:
        """As (reason, detail): the prompt leaves no room for an answer, or both answers are equal after the cut."""
        prompt_length = 0
        if self.max_length is not None:  # the length depends on the sizes of the images, which have to be decoded
            prompt_length = len(self.encode_prompt(row, open_images(row)))
            if prompt_length >= self.max_length:
                return "prompt_too_long", f"{prompt_length} tokens; dpo.trainer.max_length is {self.max_length}"
        chosen, rejected = (self.encode_answer(row, side, prompt_length) for side in ("chosen", "rejected"))
        if chosen == rejected:
            return "same_after_cut", f"chosen and rejected start with the same {len(chosen)} tokens"
        return None


@dataclass
class StockCollator:
    """TRL's vision collator, for any model with a processor: nothing is cut, images are sent twice.

    It tokenizes the rendered template as one string, so texts that look like special tokens are broken up by a space,
    as in inference (see `rlaif.inference.engine`).
    """

    processor: ProcessorMixin

    def __post_init__(self) -> None:
        processor: Any = self.processor
        self._special = special_tokens(processor.tokenizer)
        if processor.tokenizer.pad_token is None:  # a copy, because the processor is saved with the policy
            processor = copy.deepcopy(processor)
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        self._collate = DataCollatorForVisionPreference(processor)

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The output of the model's processor for 2B sequences, with completion_mask [2B, T]."""
        sides = ("prompt", "chosen", "rejected")
        examples = [
            {"images": open_images(row), **{side: self.break_special_tokens(row[side]) for side in sides}}
            for row in rows
        ]
        batch: dict[str, Any] = self._collate(examples)
        return batch

    def break_special_tokens(self, messages: Sequence[Row]) -> list[Row]:
        return [{**message, "content": break_special_tokens(message["content"], self._special)} for message in messages]

    def unusable(self, row: Row) -> tuple[str, str] | None:
        """None: nothing is cut, and feedback makes no pairs of equal answers."""
        return None
