"""Useful arithmetic: what a result needs, however it is computed, to compare with the rate of one large matrix product.

It is 2 operations for each weight that a token passes, counted part by part:

- the layers of the language model, for each token; the output layer, for each token whose logits are needed;
- the vision encoder, for each patch; of the resampler, keys and values for each patch, the rest for each query.

A trained part counts three times (forward, gradient of its input, gradient of its weights), a frozen part that a
gradient passes twice, any other frozen part once. What is shared counts once: the prompt of all answers to an image,
the beginning of all questions about one. Not counted: attention scores, norms, activations, sampling, the optimizer;
tokens that are computed again (gradient checkpointing, a prefix that is not cached); padding.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from PIL import Image

from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVImageProcessor
from rlaif.inference.engine import Completion, Request


@dataclass(frozen=True)
class Counts:
    """What passes the model. logits: tokens whose logits are needed; slices: of images, overviews included."""

    tokens: int = 0
    logits: int = 0
    patches: int = 0
    slices: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Times:
    """How often the forward work of a part counts: 1, 2 or 3, more with a reference model. projection: the resampler's
    first layer, whose input needs no gradient where the encoder is frozen.
    """

    language: float = 1
    vision: float = 1
    resampler: float = 1
    projection: float = 1


@dataclass(frozen=True)
class Weights:
    """Weights that multiply a token, a token with logits, a patch (in the encoder, in the resampler's first layer and
    in the rest of it), a slice.
    """

    language: int
    head: int
    vision: int
    projection: int
    keys: int
    queries: int

    def operations(self, counts: Counts, times: Times | None = None) -> float:
        """Useful operations of what passes the model."""
        times = times or Times()
        return 2 * (
            times.language * (counts.tokens * self.language + counts.logits * self.head)
            + times.vision * counts.patches * self.vision
            + times.projection * counts.patches * self.projection
            + times.resampler * (counts.patches * self.keys + counts.slices * self.queries)
        )


def weights_of(config: MiniCPMVConfig) -> Weights:
    """Counted in a model without memory."""
    with torch.device("meta"):
        model = MiniCPMVForConditionalGeneration(config)
    backbone, width = model.model, config.hidden_size

    def matrices(part: torch.nn.Module) -> int:
        return sum(value.numel() for value in part.parameters() if value.dim() > 1)

    positions = backbone.vision_model.embeddings.position_embedding
    return Weights(
        language=matrices(backbone.language_model) - matrices(model.get_input_embeddings()),
        head=matrices(model.lm_head),
        vision=matrices(backbone.vision_model) - matrices(positions),
        projection=backbone.resampler.kv_proj.weight.numel(),
        keys=2 * width**2,
        queries=config.query_num * 3 * width**2,  # query, output and projection
    )


def image_counts(processor: MiniCPMVImageProcessor, images: Iterable[Image.Image]) -> Counts:
    """Patches and slices of images."""
    total = Counts()
    for image in images:
        sizes = processor.preprocess([image], return_tensors="pt")["tgt_sizes"][0]
        total += Counts(patches=int(sizes.prod(1).sum()), slices=len(sizes))
    return total


def shared_tokens(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens of prompts whose common beginning counts once."""
    first = prompts[0]
    longest = min(map(len, prompts))
    common = next(
        (index for index in range(longest) if any(prompt[index] != first[index] for prompt in prompts)), longest
    )
    return common + sum(len(prompt) - common for prompt in prompts)


def request_counts(processor: Any, requests: Sequence[Request], rows: Sequence[Sequence[Completion]]) -> Counts:
    """Requests with images to an engine, with its answers; the last token of an answer is written, but not read."""
    from model.images import open_image

    by_image: dict[bytes, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        assert request.image is not None
        by_image[request.image].append(index)
    total = image_counts(processor.image_processor, map(open_image, by_image))
    for indices in by_image.values():
        prompts = [processor.encode_turn(requests[index].text, has_image=True) for index in indices]
        image = rows[indices[0]][0].prompt_tokens - len(prompts[0])  # tokens beyond the marker of the image
        total += Counts(tokens=image + shared_tokens(prompts))
    answers = [answer.num_tokens for row in rows for answer in row]
    return total + Counts(tokens=sum(answers) - len(answers), logits=sum(answers))


def pair_counts(processor: Any, rows: Sequence[dict[str, Any]]) -> Counts:
    """Pairs with an image as `bench.comparisons.dpo` makes them; the prompt of several pairs counts once."""
    from model.images import open_image

    total, seen = Counts(), set()
    for row in rows:
        (message,) = row["prompt"]
        key = (message["content"], *(image["bytes"] for image in row["images"]))
        if key not in seen:
            seen.add(key)
            images = [open_image(image["bytes"]) for image in row["images"]]
            parts = [{"type": "image"}, {"type": "text", "text": message["content"]}]
            text = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
            prompt = processor([images], [text])["input_ids"]
            total += Counts(tokens=prompt.shape[1]) + image_counts(processor.image_processor, images)
        for answer in ("chosen", "rejected"):
            text = row[answer][0]["content"]
            count = len(processor.tokenizer.encode(text, add_special_tokens=False)) + 1  # its end
            total += Counts(tokens=count, logits=count)
    return total


def batch_counts(batch: dict[str, Any]) -> Counts:
    """A packed batch of a training stage."""
    from model.processing import NO_LOSS
    from training.packing import content_tokens

    sizes, labels = batch["tgt_sizes"], int((batch["labels"] != NO_LOSS).sum())
    return Counts(int(content_tokens(batch)), labels, int(sizes.prod(1).sum()), len(sizes))
