"""Processor: chat messages and images -> token ids with image placeholders.

The text of messages is tokenized without special tokens, so `<unk>`, `<image>` or `<|eot_id|>` written by a user or a
model stay text. Only image markers and the tokens of the chat template become special. Generation, labeling and
training all use it.

The released tokenizer of 2.5 declares `!` special, because it pads with it. Special tokens are left out of sampled
text, so "Great! A cat" would become "Great A cat"; `prepare_tokenizer` makes such a token text again.
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
from model.transformers_private import declare_text

IMAGE_MARKER = "(<image>./</image>)"  # represents an image in a rendered prompt, until `expand` replaces it
# Represents the content of a message while the chat template is rendered; the characters are for private use.
CONTENT_MARKER = "\ue000{}\ue001"

# For a tokenizer without a chat template, by the token that ends a turn.
TEMPLATES = {
    "<|im_end|>": (  # ChatML, version 2.6
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "<|eot_id|>": (  # Llama 3, version 2.5
        "{{ bos_token }}{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
}

NO_LOSS = -100  # label of a token without loss

Content = str | list[dict[str, Any]]


def content_parts(content: Content) -> list[dict[str, Any]]:
    """A message's content as a list of {"type": "image"} and {"type": "text", "text": ...} parts."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for part in parts:
        if part["type"] not in ("image", "text"):
            raise ValueError(f"message part of type {part['type']!r}; allowed: 'image', 'text'. Convert or remove it.")
    return parts


def with_images(messages: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The messages with `count` image parts before the text of the first user message, as in TRL.

    Errors: ValueError: there are images, but no user message.
    """
    copies = [dict(message) for message in messages]
    if count:
        user_message = next((message for message in copies if message["role"] == "user"), None)
        if user_message is None:
            raise ValueError(f"{count} images, but no user message; add one, its text comes after the images")
        user_message["content"] = [{"type": "image"}] * count + content_parts(user_message["content"])
    return copies


def prepare_tokenizer(tokenizer: Any) -> None:
    """Give the tokenizer of a checkpoint a chat template where it has none, and make special tokens that are text
    ordinary ones: those whose text is one token, the same, where nothing is special. Such a token no longer pads.
    """
    if tokenizer.chat_template is None:
        vocabulary = tokenizer.get_vocab()
        tokenizer.chat_template = next((TEMPLATES[end] for end in TEMPLATES if end in vocabulary), None)
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    text = [
        token
        for token in dict.fromkeys([*tokenizer.all_special_tokens, *added])
        if tokenizer.encode(token, add_special_tokens=False, split_special_tokens=True)
        == [tokenizer.convert_tokens_to_ids(token)]
    ]
    if text:
        if tokenizer.pad_token in text:
            tokenizer.pad_token = tokenizer.eos_token
        declare_text(tokenizer, text)


def end_of_turn(tokenizer: Any) -> int:
    """Id of the token that ends an answer (<|eot_id|> in 2.5, <|im_end|> in 2.6): the first one that the chat template
    adds.
    """
    answer = [{"role": "assistant", "content": CONTENT_MARKER.format(0)}]
    rendered = tokenizer.apply_chat_template(answer, tokenize=False)
    ids: list[int] = tokenizer.encode(rendered.partition(CONTENT_MARKER.format(0))[2], add_special_tokens=False)
    return ids[0]


class MiniCPMVProcessor(ProcessorMixin):
    """The image processor and a fast tokenizer whose vocabulary has the image tags and `<unk>`."""

    def __init__(
        self,
        image_processor: MiniCPMVImageProcessor,
        tokenizer: Any,
        chat_template: str | None = None,
        **kwargs: Any,
    ):
        prepare_tokenizer(tokenizer)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        vocabulary = tokenizer.get_vocab()
        missing = [tag for tag in image_processor.tags if tag not in vocabulary]
        if missing:
            raise ValueError(
                f"the tokenizer has no token {', '.join(missing)}; MiniCPM-V needs each image tag as one special "
                "token; use the tokenizer of the model"
            )
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_processor.unk)
        self._fixed_ids: dict[str, list[int]] = {}
        self.marker_ids = self.encode_special(IMAGE_MARKER)
        self.end_of_turn = end_of_turn(tokenizer)

    def encode_special(self, text: str) -> list[int]:
        """Token ids of trusted text, in which tags and control tokens are special."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def encode_fixed(self, text: str) -> list[int]:
        """As `encode_special`, for pieces of the chat template and image tags: they are few; each is encoded once."""
        if text not in self._fixed_ids:
            self._fixed_ids[text] = self.encode_special(text)
        return self._fixed_ids[text].copy()

    def encode_text(self, text: str) -> list[int]:
        """Token ids of untrusted text, in which nothing becomes a special token."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids

    def encode_chat(self, messages: Sequence[dict[str, Any]], add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation, with a marker and a line break for each image (see `expand`).

        messages: {"role", "content"}; the content is a string or a list of image and text parts.
        """
        return [
            token
            for ids, _ in self.segments(messages, add_generation_prompt)
            for token in (self.encode_marker() if ids is None else ids)
        ]

    def segments(
        self, messages: Sequence[dict[str, Any]], add_generation_prompt: bool
    ) -> Iterator[tuple[list[int] | None, bool]]:
        """A conversation in segments (token ids, whether the assistant writes them); ids are None for an image."""
        markers = [CONTENT_MARKER.format(index) for index in range(len(messages))]
        template_text = self.render(
            [{"role": message["role"], "content": marker} for message, marker in zip(messages, markers, strict=True)],
            add_generation_prompt,
        )
        by_assistant = False
        for message, marker in zip(messages, markers, strict=True):
            before, _, template_text = template_text.partition(marker)
            yield from self.template_segments(before, after_answer=by_assistant)
            by_assistant = message["role"] == "assistant"
            for part in content_parts(message["content"]):
                yield (None, False) if part["type"] == "image" else (self.encode_text(part["text"]), by_assistant)
        yield from self.template_segments(template_text, after_answer=by_assistant)

    def template_segments(self, text: str, after_answer: bool) -> Iterator[tuple[list[int], bool]]:
        """Segments of the template's text between two messages; the first token after an answer ends the turn and is
        the assistant's.
        """
        ids = self.encode_fixed(text)
        if after_answer:
            yield ids[:1], True
            ids = ids[1:]
        yield ids, False

    def encode_training(
        self, messages: Sequence[dict[str, Any]], image_sizes: Sequence[Size]
    ) -> tuple[list[int], list[int]]:
        """Token ids of a conversation with the placeholders of its images, which have these (width, height), and its
        labels: the ids of what the assistant writes, NO_LOSS elsewhere.

        Errors:
            ValueError: the messages have more or fewer images than sizes, or the assistant writes nothing.
        """
        ids: list[int] = []
        labels: list[int] = []
        num_images = 0
        for segment_ids, by_assistant in self.segments(messages, add_generation_prompt=False):
            if segment_ids is None:
                if num_images < len(image_sizes):
                    schema = self.image_processor.get_slice_image_placeholder(image_sizes[num_images], num_images)
                    segment_ids = self.encode_fixed(schema) + self.encode_fixed("\n")
                else:
                    segment_ids = []
                num_images += 1
            ids += segment_ids
            labels += segment_ids if by_assistant else [NO_LOSS] * len(segment_ids)
        if num_images != len(image_sizes):
            raise ValueError(f"{len(image_sizes)} images for {num_images} image parts; give one image for each")
        if all(label == NO_LOSS for label in labels):
            raise ValueError("no assistant message to train on; add one, or remove the conversation")
        return ids, labels

    def encode_marker(self) -> list[int]:
        """Token ids of the image marker and its line break, separately: Llama-3's tokenizer would merge `)` with it."""
        return self.marker_ids + self.encode_fixed("\n")

    def encode_rendered(self, text: str) -> list[int]:
        """Token ids of a rendered prompt, with its markers tokenized as `expand` expects."""
        first, *others = text.split(IMAGE_MARKER)
        ids = self.encode_special(first)
        for part in others:
            ids += self.marker_ids + self.encode_special(part)
        return ids

    def encode_turn(self, text: str, has_image: bool) -> list[int]:
        """Token ids of a user turn, image first, up to the start of the assistant's answer."""
        parts = [{"type": "image"}] * has_image + [{"type": "text", "text": text}]
        return self.encode_chat([{"role": "user", "content": parts}])

    def encode_answer(self, text: str) -> list[int]:
        """Token ids of an answer and the token that ends its turn."""
        return [*self.encode_text(text), self.end_of_turn]

    def expand(self, ids: Sequence[int], image_sizes: Sequence[Size]) -> list[int]:
        """Replace the marker of each image by its placeholders; image_sizes are (width, height).

        Errors:
            ValueError: there are fewer markers than sizes.
        """
        expanded: list[int] = []
        sizes = list(image_sizes)
        length, position, num_images = len(self.marker_ids), 0, 0
        while position < len(ids):
            if num_images < len(sizes) and list(ids[position : position + length]) == self.marker_ids:
                schema = self.image_processor.get_slice_image_placeholder(sizes[num_images], num_images)
                expanded += self.encode_fixed(schema)
                num_images += 1
                position += length
            else:
                expanded.append(ids[position])
                position += 1
        if num_images != len(sizes):
            raise ValueError(
                f"{len(sizes)} images for {num_images} image markers; give one image for each {IMAGE_MARKER}"
            )
        return expanded

    def render(self, messages: Sequence[dict[str, Any]], add_generation_prompt: bool) -> str:
        """The chat template filled with messages whose content is text."""
        text: str = self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return text

    def apply_chat_template(  # type: ignore[override]  # a single conversation
        self,
        conversation: Sequence[dict[str, Any]],
        tokenize: bool = False,
        add_generation_prompt: bool = False,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The rendered prompt, in which an image part is a marker and a line break.

        tokenize: `encode_chat` instead. return_dict: its ids as a batch of one row, input_ids and attention_mask, like
        transformers' processors; TRL calls it so for text without images.
        """
        if tokenize:
            ids = self.encode_chat(conversation, add_generation_prompt)
            return {"input_ids": [ids], "attention_mask": [[1] * len(ids)]} if return_dict else ids
        text_messages = [
            {
                "role": message["role"],
                "content": "".join(
                    IMAGE_MARKER + "\n" if part["type"] == "image" else part["text"]
                    for part in content_parts(message["content"])
                ),
            }
            for message in conversation
        ]
        return self.render(text_messages, add_generation_prompt)

    def __call__(self, images: Any = None, text: str | list[str] | None = None, **kwargs: Any) -> BatchFeature:
        """Rendered prompts (one marker an image) and their images -> a batch, padded on the right.

        Returns:
            input_ids, attention_mask [B, T]; with images also pixel_values [S, 3, side, P * side] and
            tgt_sizes [S, 2] of all slices of all rows.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        images_of_texts = [
            [entry] if isinstance(entry, Image.Image) else list(entry)
            for entry in ([images] if isinstance(images, Image.Image) else images or [])
        ]
        if isinstance(text, str) and len(images_of_texts) > 1:
            images_of_texts = [[image for group in images_of_texts for image in group]]
        features = self.image_processor(images_of_texts) if images_of_texts else None
        sizes_of_texts = features["image_sizes"] if features else [[]] * len(texts)
        rows = [
            torch.tensor(self.expand(self.encode_rendered(prompt), sizes))
            for prompt, sizes in zip(texts, sizes_of_texts, strict=True)
        ]
        batch = self.pad(rows)
        if features:
            batch["pixel_values"] = pack_slices([strip for strips in features["pixel_values"] for strip in strips])
            batch["tgt_sizes"] = torch.cat(features["tgt_sizes"])
        return BatchFeature(batch)

    def save_pretrained(self, save_directory: str | PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> Any:
        """As in transformers 5, plus `preprocessor_config.json` for readers of the released layout."""
        self.image_processor.save_pretrained(save_directory)
        return super().save_pretrained(save_directory, push_to_hub, **kwargs)

    def pad(self, rows: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Rows of ids -> input_ids and attention_mask [B, T]; the mask is computed from the lengths, because the text
        may contain the pad token, which may be the end token, or there may be none.
        """
        padding = self.tokenizer.pad_token_id or 0
        return {
            "input_ids": pad_sequence(list(rows), batch_first=True, padding_value=padding),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
        }
