"""An untrained MiniCPM-V of toy size, and saving a model in the released layout."""

import math
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast

from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVImageProcessor, MiniCPMVProcessor
from scenes.recipe.tokenizer import build_tokenizer

RESOLUTION, QUERIES, PATCH = 84, 16, 14
GRID_GAIN = 8.0
WORD_SCALE = 0.1  # standard deviation of the word embeddings, and of what the resampler says to the language model


def build_config(tokenizer: PreTrainedTokenizerFast) -> MiniCPMVConfig:
    """The released architecture at toy size: heads of 64 in the language model and of 32 in the vision encoder,
    two of 128 in the resampler.
    """
    return MiniCPMVConfig(
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=len(tokenizer),
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        image_token_id=tokenizer.unk_token_id,
        query_num=QUERIES,
        image_size=RESOLUTION,
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": 70 * PATCH,
            "patch_size": PATCH,
        },
    )


@torch.no_grad()
def initialize_positions(model: MiniCPMVForConditionalGeneration) -> None:
    """Give a new model a sense of position, which it otherwise learns last (2400 steps were too few).

    Position embeddings of the encoder start as large as its patches. The resampler's queries start on a grid over the
    slice, each attending around its position: the query and key projections of each head pass on the frequencies that
    change within a few patches, so that attention falls with the distance between a query and a patch.
    """
    model.model.vision_model.embeddings.position_embedding.weight.normal_(std=0.5)
    resampler = model.model.resampler
    width, side = resampler.query.shape[1], math.isqrt(QUERIES)
    frequencies = 10000.0 ** (-torch.arange(width // 4) / (width // 4))
    patches = RESOLUTION / PATCH / side  # between two queries
    columns = (torch.arange(QUERIES)[:, None] % side * patches + (patches - 1) / 2) * frequencies
    rows = (torch.arange(QUERIES)[:, None] // side * patches + (patches - 1) / 2) * frequencies
    resampler.query.copy_(torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], dim=1))
    fast = (frequencies > 0.1).repeat(4).nonzero().flatten()  # [F], the dimensions that change within a few patches
    head = width // resampler.attn.num_heads
    projection = torch.zeros(width, width)
    for first in range(0, width, head):
        projection[first + torch.arange(len(fast)), fast] = 1
    resampler.attn.in_proj_weight[:width] = GRID_GAIN * projection
    resampler.attn.in_proj_weight[width : 2 * width] = projection


@torch.no_grad()
def initialize_words(model: MiniCPMVForConditionalGeneration) -> None:
    """Let a new model repeat words that it reads, and words that it sees.

    The output layer starts along the word embeddings: copying is then learned for all words at once, in a quarter of
    the steps. The resampler passes on what it attends to, since the encoder's patches will resemble words.
    """
    words = model.get_input_embeddings().weight.normal_(std=WORD_SCALE)
    model.get_output_embeddings().weight.copy_(0.4 * words)
    resampler = model.model.resampler
    width = resampler.query.shape[1]
    resampler.attn.in_proj_weight[2 * width :] = torch.eye(width)
    resampler.attn.out_proj.weight.copy_(torch.eye(width))
    resampler.proj.copy_(WORD_SCALE * torch.eye(width))


def new_processor(seed: int) -> MiniCPMVProcessor:
    images = MiniCPMVImageProcessor(scale_resolution=RESOLUTION, patch_size=PATCH, image_feature_size=QUERIES)
    return MiniCPMVProcessor(images, build_tokenizer(seed))


def save(model: MiniCPMVForConditionalGeneration, processor: MiniCPMVProcessor, out: Path) -> None:
    """Save a model in the released layout, as vLLM and `from_pretrained` read it."""
    tokenizer = processor.tokenizer
    stop_ids = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end_of_text|>")]
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=stop_ids, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(out)
    processor.save_pretrained(out)
