"""Models and images for benchmarks: random weights in the released architecture, or a shipped model; noise images."""

import io
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from transformers import set_seed

from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVImageProcessor, MiniCPMVProcessor
from scenes.recipe.tokenizer import build_tokenizer

PATCH = 14


@dataclass(frozen=True)
class Load:
    """Square images, and a model with random weights, or with width 0 a shipped model."""

    images: int = 4
    width: int = 0
    layers: int = 0
    resolution: int = 168
    queries: int = 64
    side: int = 400  # pixels
    dtype: str = "float32"


@contextmanager
def model_folder(load: Load, shipped: str) -> Iterator[str]:
    """The folder of the model of a load."""
    if not load.width:
        yield shipped
        return
    with tempfile.TemporaryDirectory() as temporary:
        parameters = save_model(Path(temporary), load.width, load.layers, load.resolution, load.queries)
        print(f"{parameters:,} parameters")
        yield temporary


def picture(rng: random.Random, side: int, grain: int = 8) -> bytes:
    """A square JPEG of `grain` x `grain` spots of random color."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (grain, grain), rng.randbytes(3 * grain**2)).resize((side, side)).save(buffer, "JPEG")
    return buffer.getvalue()


def pictures(load: Load) -> dict[str, bytes]:
    """Encoded images by key."""
    rng = random.Random(0)
    return {str(index): picture(rng, load.side) for index in range(load.images)}


def save_model(
    folder: Path,
    width: int,
    layers: int,
    resolution: int = 84,
    queries: int = 16,
    vision_layers: int = 4,
    vocabulary: int = 0,
) -> int:
    """Returns the number of parameters. resolution: side of a slice in pixels; queries: resampler queries per slice;
    vocabulary: 0 for that of the tokenizer.
    """
    set_seed(0)
    images = MiniCPMVImageProcessor(scale_resolution=resolution, patch_size=PATCH, image_feature_size=queries)
    processor = MiniCPMVProcessor(images, build_tokenizer(0))
    config = MiniCPMVConfig(
        hidden_size=width,
        intermediate_size=width * 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        vocab_size=vocabulary or len(processor.tokenizer),
        image_token_id=processor.image_token_id,
        query_num=queries,
        image_size=resolution,
        vision_config={
            "hidden_size": width // 2,
            "intermediate_size": width,
            "num_hidden_layers": vision_layers,
            "num_attention_heads": width // 128,
        },
    )
    return _save(MiniCPMVForConditionalGeneration(config), processor, folder)


def save_full_size(folder: Path) -> int:
    """The 8.5B of version 2.5 in bfloat16, created on the GPU, with the small tokenizer. Returns its size."""
    set_seed(0)
    processor = MiniCPMVProcessor(MiniCPMVImageProcessor(), build_tokenizer(0))
    config = MiniCPMVConfig(image_token_id=processor.image_token_id)
    with torch.device("cuda"):
        model = MiniCPMVForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
    return _save(model, processor, folder)


def _save(model: MiniCPMVForConditionalGeneration, processor: MiniCPMVProcessor, folder: Path) -> int:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return sum(value.numel() for value in model.parameters())
