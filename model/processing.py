"""Processor: chat messages and pictures -> token ids with image placeholders.

A user's text is tokenised without special tokens, so `<unk>`, `<image>` or `<|eot_id|>` typed by a person or written by
a model stay text. Only the marker that stands for a real picture, and the chat template's own tokens, become special.
Generation, labelling and training all come through here.
"""

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from model.image_processing import MiniCPMVImageProcessor, pack_slices
from model.slicing import Size

# what stands for a picture in a rendered prompt, before its placeholders are known
IMAGE_MARKER = "(<image>./</image>)"
CONTENT_MARK = "\ue000{}\ue001"  # private-use characters hold a message's place while the chat template is rendered

NO_LOSS = -100  # label of a token that is not learnt

Content = str | list[dict[str, Any]]


def content_parts(content: Content) -> list[dict[str, Any]]:
    """A message's content as a list of {"type": "image"} and {"type": "text", "text": ...} parts."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for part in parts:
        if part["type"] not in ("image", "text"):
            raise ValueError(f"message part of type {part['type']!r}; allowed: 'image', 'text'")
    return parts


def with_images(messages: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The messages with `count` image parts before the text of the first user turn, where TRL places them too.

    Errors: ValueError: there are images and no user turn.
    """
    placed = [dict(message) for message in messages]
    if count:
        first = next((message for message in placed if message["role"] == "user"), None)
        if first is None:
            raise ValueError(f"{count} images and no message of the user to show them in")
        first["content"] = [{"type": "image"}] * count + content_parts(first["content"])
    return placed


class MiniCPMVProcessor(ProcessorMixin):
    """Wraps the image processor and a fast tokenizer whose vocabulary holds the image tags and `<unk>`."""

    def __init__(
        self,
        image_processor: MiniCPMVImageProcessor,
        tokenizer: Any,
        chat_template: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        images, vocabulary = image_processor, tokenizer.get_vocab()
        missing = [tag for tag in images.tags if tag not in vocabulary]
        if missing:
            raise ValueError(
                f"the tokenizer has no token {', '.join(missing)}; MiniCPM-V needs each image tag as one special token"
            )
        self.image_token_id = tokenizer.convert_tokens_to_ids(images.unk)
        self.marker_ids = self.encode_special(IMAGE_MARKER)
        # the token that ends an answer (<|eot_id|> in 2.5, <|im_end|> in 2.6): what the template puts behind one
        answer = [{"role": "assistant", "content": CONTENT_MARK.format(0)}]
        self.end_of_turn = self.encode_special(self.render(answer, False).partition(CONTENT_MARK.format(0))[2])[0]

    def encode_special(self, text: str) -> list[int]:
        """Token ids of trusted text: tags and control tokens in it are special."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of anybody's text: nothing in it becomes a special token."""
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def encode_chat(self, messages: Sequence[dict[str, Any]], add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation, each picture still one marker (`expand` puts its placeholders in).

        Args:
            messages: {"role", "content"} with content a string or a list of image and text parts; a picture is followed
            by a line break.
        """
        return [
            token
            for ids, _ in self.segments(messages, add_generation_prompt)
            for token in (self.encode_picture() if ids is None else ids)
        ]

    def segments(
        self, messages: Sequence[dict[str, Any]], add_generation_prompt: bool
    ) -> Iterator[tuple[list[int] | None, bool]]:
        """A conversation in pieces: (token ids, whether the assistant writes them); for a picture the ids are None."""
        marked = [
            {"role": message["role"], "content": CONTENT_MARK.format(index)} for index, message in enumerate(messages)
        ]
        rest = self.render(marked, add_generation_prompt)
        answered = False
        for index, message in enumerate(messages):
            before, _, rest = rest.partition(CONTENT_MARK.format(index))
            yield from self.between(before, answered)
            answered = message["role"] == "assistant"
            for part in content_parts(message["content"]):
                yield (None, False) if part["type"] == "image" else (self.encode_text(part["text"]), answered)
        yield from self.between(rest, answered)

    def between(self, text: str, answered: bool) -> Iterator[tuple[list[int], bool]]:
        """What the template puts between two messages; behind an answer, its first token is the assistant's too: it
        ends the turn.
        """
        ids = self.encode_special(text)
        if answered:
            yield ids[:1], True
            ids = ids[1:]
        yield ids, False

    def encode_training(
        self, messages: Sequence[dict[str, Any]], image_sizes: Sequence[Size]
    ) -> tuple[list[int], list[int]]:
        """Token ids of a whole conversation, pictures of these (width, height) expanded, and its labels: the ids where
        the assistant writes, NO_LOSS elsewhere.

        Errors:
            ValueError: there are not as many pictures in the messages as sizes, or nothing to learn.
        """
        ids: list[int] = []
        labels: list[int] = []
        used = 0
        for piece, learnt in self.segments(messages, add_generation_prompt=False):
            if piece is None:
                if used < len(image_sizes):
                    schema = self.image_processor.get_slice_image_placeholder(image_sizes[used], used)
                    piece = self.encode_special(schema) + self.encode_special("\n")
                else:
                    piece = []
                used += 1
            ids += piece
            labels += piece if learnt else [NO_LOSS] * len(piece)
        if used != len(image_sizes):
            raise ValueError(f"{len(image_sizes)} images for {used} image parts; give one image for each")
        if all(label == NO_LOSS for label in labels):
            raise ValueError("no message of the assistant to learn from")
        return ids, labels

    def encode_picture(self) -> list[int]:
        """Token ids of the marker and of its line break, apart: Llama-3's tokenizer would merge `)` with the break."""
        return self.marker_ids + self.encode_special("\n")

    def encode_rendered(self, text: str) -> list[int]:
        """Token ids of a rendered prompt, its markers as `expand` finds them."""
        first, *others = text.split(IMAGE_MARKER)
        ids = self.encode_special(first)
        for piece in others:
            ids += self.marker_ids + self.encode_special(piece)
        return ids

    def encode_turn(self, text: str, has_image: bool) -> list[int]:
        """Token ids of one user turn (picture first) up to where the assistant's answer begins."""
        parts = [{"type": "image"}] * has_image + [{"type": "text", "text": text}]
        return self.encode_chat([{"role": "user", "content": parts}])

    def encode_answer(self, text: str) -> list[int]:
        """Token ids of an assistant's answer with the token that ends its turn."""
        return [*self.encode_text(text), self.end_of_turn]

    def expand(self, ids: Sequence[int], image_sizes: Sequence[Size]) -> list[int]:
        """Replace each marker by the placeholders of its picture, sizes as (width, height).

        Errors:
            ValueError: there are not as many markers as sizes.
        """
        out: list[int] = []
        sizes = list(image_sizes)
        width, position, used = len(self.marker_ids), 0, 0
        while position < len(ids):
            if list(ids[position : position + width]) == self.marker_ids and used < len(sizes):
                out += self.encode_special(self.image_processor.get_slice_image_placeholder(sizes[used], used))
                used += 1
                position += width
            else:
                out.append(ids[position])
                position += 1
        if used != len(sizes):
            raise ValueError(f"{len(sizes)} images for {used} image markers; give one image for each {IMAGE_MARKER}")
        return out

    def render(self, messages: Sequence[dict[str, Any]], add_generation_prompt: bool) -> str:
        return self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
        )

    def apply_chat_template(  # type: ignore[override]  # conversations of this model only
        self,
        conversation: Sequence[dict[str, Any]],
        tokenize: bool = False,
        add_generation_prompt: bool = False,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The rendered prompt; a list of image and text parts becomes markers, each with a line break, and text. With
        `tokenize`: `encode_chat`; with `return_dict` too, as transformers' processors have it, a batch of that one row,
        input_ids and attention_mask (as TRL asks for text without images).
        """
        if tokenize:
            ids = self.encode_chat(conversation, add_generation_prompt)
            return {"input_ids": [ids], "attention_mask": [[1] * len(ids)]} if return_dict else ids
        flat = [
            {
                "role": message["role"],
                "content": "".join(
                    IMAGE_MARKER + "\n" if part["type"] == "image" else part["text"]
                    for part in content_parts(message["content"])
                ),
            }
            for message in conversation
        ]
        return self.render(flat, add_generation_prompt)

    def __call__(self, images: Any = None, text: str | list[str] | None = None, **kwargs: Any) -> BatchFeature:
        """Rendered prompts (one marker a picture) and their pictures -> a batch, padded on the right.

        Returns:
            input_ids, attention_mask [B, T]; with pictures also pixel_values [N, 3, P, Lmax*P] and tgt_sizes [N, 2]
            over all slices of all rows.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        pictures = [
            [image] if isinstance(image, Image.Image) else list(image)
            for image in ([images] if isinstance(images, Image.Image) else images or [])
        ]
        if isinstance(text, str) and len(pictures) > 1:
            pictures = [[picture for group in pictures for picture in group]]
        features = self.image_processor(pictures) if pictures else None
        sizes = features["image_sizes"] if features else [[]] * len(texts)
        rows = [
            torch.tensor(self.expand(self.encode_rendered(item), size)) for item, size in zip(texts, sizes, strict=True)
        ]
        batch = self.pad(rows)
        if features:
            batch["pixel_values"] = pack_slices([row for slices in features["pixel_values"] for row in slices])
            batch["tgt_sizes"] = torch.cat(features["tgt_sizes"])
        return BatchFeature(batch)

    def save_pretrained(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> Any:
        """As transformers 5 does, plus `preprocessor_config.json`, where readers of the released layout look."""
        self.image_processor.save_pretrained(save_directory)
        return super().save_pretrained(save_directory, push_to_hub, **kwargs)

    def pad(self, rows: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Rows of ids -> input_ids and attention_mask [B, T]; the mask comes from the lengths, since the pad token
        may be an ordinary one.
        """
        return {
            "input_ids": pad_sequence(list(rows), batch_first=True, padding_value=self.tokenizer.pad_token_id),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
        }
