"""Models to measure with: random weights in the released architecture, as wide as is asked for."""

from pathlib import Path

from transformers import set_seed

from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVImageProcessor, MiniCPMVProcessor
from model.embedded.tokenizer import build_tokenizer

PATCH = 14


def save_model(folder: Path, width: int, layers: int, resolution: int = 84, queries: int = 16) -> int:
    """Returns the number of parameters. resolution: pixels of a slice's side; queries: of the resampler, a slice."""
    set_seed(0)
    images = MiniCPMVImageProcessor(scale_resolution=resolution, patch_size=PATCH, image_feature_size=queries)
    processor = MiniCPMVProcessor(images, build_tokenizer(0))
    config = MiniCPMVConfig(
        hidden_size=width,
        intermediate_size=width * 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        vocab_size=len(processor.tokenizer),
        image_token_id=processor.image_token_id,
        query_num=queries,
        image_size=resolution,
        vision_config={
            "hidden_size": width // 2,
            "intermediate_size": width,
            "num_hidden_layers": 4,
            "num_attention_heads": width // 128,
        },
    )
    model = MiniCPMVForConditionalGeneration(config)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return sum(value.numel() for value in model.parameters())
