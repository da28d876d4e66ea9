"""The smallest MiniCPM-V that vLLM serves, with random weights: the real architecture for tests of real stages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

    from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = "yes no Yes No YES NO a the is are there in this picture of red green blue circle square star top left right"


def words_tokenizer(special: list[str]) -> Any:
    """Byte-level BPE (of `tokenizers`) with these special tokens, its words single tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS, *WORDS.split()] * 10, trainer)
    return tokenizer


def tiny_tokenizer(version: str = "2.5") -> Any:
    """Special tokens and template as in the released model of a version.

    Of 2.6 only what differs for images and turns: `<image_id>` tags, ChatML.
    """
    from transformers import PreTrainedTokenizerFast

    from scenes.recipe.tokenizer import CHAT_TEMPLATE, SPECIAL_TOKENS

    special, template, end_of_turn = list(SPECIAL_TOKENS), CHAT_TEMPLATE, "<|eot_id|>"
    if version == "2.6":
        special += ["<image_id>", "</image_id>", "<|im_start|>", "<|im_end|>"]
        template, end_of_turn = CHATML, "<|im_end|>"
    named = {
        "bos_token": "<|begin_of_text|>",
        "eos_token": end_of_turn,
        "unk_token": "<unk>",
        "pad_token": "<|end_of_text|>",
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=words_tokenizer(special),
        extra_special_tokens=[token for token in special if token not in named.values()],
        chat_template=template,
        clean_up_tokenization_spaces=False,
        **named,
    )


def save_tiny_model(
    folder: Path, seed: int = 0, version: str = "2.5", positions: str = "", width: int = 128, table_side: int = 10
) -> None:
    """Write config, weights, tokenizer, image processor. Images are cut at 56 x 56, at most four slices.

    width: of the language model, in heads of 64, of which two share a key if their number is even. table_side: of the
    vision encoder's position table.
    """
    import torch

    from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVImageProcessor, MiniCPMVProcessor

    tokenizer = tiny_tokenizer(version)
    config = MiniCPMVConfig(
        version=version,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=2,
        num_attention_heads=width // 64,
        num_key_value_heads=width // (64 if width % 128 else 128),
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        image_token_id=tokenizer.unk_token_id,
        query_num=4,
        image_size=56,
        max_slice_num=4,
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 1,
            "image_size": 14 * table_side,
            "patch_size": 14,
            "position_embedding_type": positions,
        },
    )
    torch.manual_seed(seed)
    model = MiniCPMVForConditionalGeneration(config)
    images = MiniCPMVImageProcessor(
        max_slice_nums=4, scale_resolution=56, image_feature_size=4, version=version, use_image_id=version == "2.6"
    )
    model.save_pretrained(folder)
    MiniCPMVProcessor(images, tokenizer).save_pretrained(folder)


def load_model(folder: Path) -> tuple[MiniCPMVForConditionalGeneration, MiniCPMVProcessor]:
    """Model in float32, for inference, and its processor."""
    import torch

    from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor

    model = MiniCPMVForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    return model, MiniCPMVProcessor.from_pretrained(folder)


def noise_image(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Random pixels; size: width, height."""
    import torch
    from PIL import Image

    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(noise.numpy())
