"""Rows of `pairs` -> a batch for TRL's DPOTrainer.

MiniCPM-V has its own collator, because TRL's sends every image twice, for the chosen and for the rejected answer,
and truncates whole sequences, so that a long image prompt leaves no answer. Here an image enters a batch once: the
model either computes a prompt once for all answers to it in the batch (`folds`), or repeats the image features of a
pair (`image_repeats`), and only answers are cut. Other models use TRL's collator, without truncation. Images are
decoded batch by batch.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
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
SIDES = ("chosen", "rejected")


class EncodedImages(Protocol):
    """What the frozen vision parts make of images (see dpo.vision_cache)."""

    def read(self, image: bytes) -> Any:
        """An encoded image, with its size (width, height)."""

    def collate(self, images: Sequence[Any]) -> dict[str, Any]:
        """Encoded images, possibly none -> vision_states or image_features, and tgt_sizes."""


class Collator(Protocol):
    """The collator of a model."""

    @property
    def processor(self) -> ProcessorMixin: ...

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """B rows with images, prompt, chosen, rejected -> a batch of 2B sequences, chosen first."""

    def unusable(self, row: Row) -> tuple[str, str] | None:
        """Why a pair cannot be trained on, as (reason, detail); None: it can."""


@dataclass
class FoldedPrompt:
    """A prompt of a batch, and where in the row it ends and its answers start."""

    ids: list[int]
    images: list[Any]  # decoded or encoded
    end: int = 0
    starts: dict[tuple[int, ...], int] = field(default_factory=dict)


def pad_sequences(
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]], processor: MiniCPMVProcessor
) -> dict[str, Any]:
    """Pairs of a prompt and an answer -> input_ids, attention_mask and completion_mask, padded on the right."""
    batch: dict[str, Any] = processor.pad([torch.tensor([*prompt, *answer]) for prompt, answer in sequences])
    masks = [torch.tensor([0] * len(prompt) + [1] * len(answer)) for prompt, answer in sequences]
    return {**batch, "completion_mask": pad_sequence(masks, batch_first=True)}


def open_images(row: Row) -> list[Image.Image]:
    return [open_image(image["bytes"]) for image in row["images"]]


@dataclass
class PairCollator:
    """B rows with images, prompt, chosen, rejected -> a batch of 2B sequences, chosen first.

    Args:
        max_answer_tokens: longest answer, with its end token; None: no limit.
        max_length: longest sequence; an answer is cut to what its prompt leaves. Rows whose prompt leaves nothing must
            be dropped before (see `unusable`). None: no limit.
        shared_prefix: the model computes each prompt once for all answers to it in the batch.
        end_token: answers are whole; False: they are cut within a response, and have no end token.
        vision: encoded images, in place of pixels; None: images are decoded and cut for each batch.
    """

    processor: MiniCPMVProcessor
    max_answer_tokens: int | None = None
    max_length: int | None = None
    shared_prefix: bool = False
    end_token: bool = True
    vision: EncodedImages | None = None

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """
        Returns:
            input_ids, attention_mask, completion_mask [2B, T]: rows r and B + r are one pair, the completion is the
            answer with its end token. With images also pixel_values [N, 3, P, Lmax*P] and tgt_sizes [N, 2]
            over the slices of the B prompts, and image_repeats = 2. With shared_prefix see `fold`.
        """
        if self.shared_prefix:
            return self.fold(rows)
        images = [self.open_images(row) for row in rows]
        prompts = [self.encode_prompt(row, row_images) for row, row_images in zip(rows, images, strict=True)]
        answers = [
            [self.encode_answer(row, side, len(prompt)) for row, prompt in zip(rows, prompts, strict=True)]
            for side in SIDES
        ]
        pairs = [(prompt, answer) for side in answers for prompt, answer in zip(prompts, side, strict=True)]
        batch = pad_sequences(pairs, self.processor) | self.encode_images([image for row in images for image in row])
        if "tgt_sizes" in batch:
            batch["image_repeats"] = 2
        return batch

    def fold(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The batch with each prompt once, an image and a text being one prompt, and each answer to it once.

        Returns:
            input_ids, completion_mask [2B, T]: the last token of the prompt and the answer, which is all that the loss
            reads; attention_mask [2B, T']: that of the whole sequences, by which TRL counts tokens. folded_ids [1, F],
            folds and unfold [2B, T] are what the model computes (see MiniCPMVModel.forward); images are sent once for
            each prompt.
        """
        prompts: dict[Any, FoldedPrompt] = {}
        pairs: list[list[tuple[FoldedPrompt, tuple[int, ...]]]] = []
        for row in rows:
            key = (tuple(image["bytes"] for image in row["images"]), json.dumps(row["prompt"]))
            if key not in prompts:
                images = self.open_images(row)
                prompts[key] = FoldedPrompt(self.encode_prompt(row, images), images)
            prompt = prompts[key]
            answers = [tuple(self.encode_answer(row, side, len(prompt.ids))) for side in SIDES]
            prompt.starts |= dict.fromkeys(answers, 0)
            pairs.append([(prompt, answer) for answer in answers])
        folded: list[int] = []
        for prompt in prompts.values():
            folded += prompt.ids
            prompt.end = len(folded)
            for answer in prompt.starts:
                prompt.starts[answer] = len(folded)
                folded += answer
        sequences = [pair[side] for side in range(len(SIDES)) for pair in pairs]  # chosen first
        batch = pad_sequences([(prompt.ids[-1:], answer) for prompt, answer in sequences], self.processor)
        lengths = torch.tensor([len(prompt.ids) + len(answer) for prompt, answer in sequences])
        batch["attention_mask"] = (torch.arange(int(lengths.max())) < lengths.unsqueeze(1)).long()
        batch["folded_ids"] = torch.tensor([folded])
        batch["folds"] = [[len(prompt.ids), *map(len, prompt.starts)] for prompt in prompts.values()]
        batch["unfold"] = pad_sequence(
            [
                torch.tensor([prompt.end - 1, *range(prompt.starts[answer], prompt.starts[answer] + len(answer))])
                for prompt, answer in sequences
            ],
            batch_first=True,
        )
        return batch | self.encode_images([image for prompt in prompts.values() for image in prompt.images])

    def open_images(self, row: Row) -> list[Any]:
        """The images of a row, decoded or encoded; either have a size."""
        return (
            open_images(row) if self.vision is None else [self.vision.read(image["bytes"]) for image in row["images"]]
        )

    def encode_images(self, images: Sequence[Any]) -> dict[str, Any]:
        """Images -> pixel_values [N, 3, P, Lmax*P] and tgt_sizes [N, 2] over their slices; nothing for no images. With
        `vision` what that gives for them.
        """
        if self.vision is not None:
            return self.vision.collate(images)
        if not images:
            return {}
        slices, sizes = zip(*map(self.processor.image_processor.slice, images), strict=True)
        views = [view for image in slices for view in image]
        return {"pixel_values": pack_slices(views), "tgt_sizes": torch.cat(sizes)}

    def encode_prompt(self, row: Row, images: Sequence[Any]) -> list[int]:
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
