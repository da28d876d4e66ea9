"""Tiny random image-text models of other families, as a user would name them in a configuration."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VISION: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1}
TEXT = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": 1024,
}
PATCHES: dict[str, Any] = {"image_size": 56, "patch_size": 14, "vision_use_head": False}
# of messages whose content is a text or a list of parts, images as `marker`
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'MARKER' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer_with(marker: str, **named: str) -> Any:
    """Byte-level BPE with ChatML, `marker` where an image stands; named: further special tokens by their role."""
    from transformers import PreTrainedTokenizerFast

    from tests.support.tiny import words_tokenizer

    special = ["<s>", "<pad>", "<unk>", "<|im_start|>", "<|im_end|>", *dict.fromkeys([marker, *named.values()])]
    tokenizer = words_tokenizer(special)
    tokenizer.add_tokens(["\n" * count for count in range(1, 5)])  # Gemma has such, and vLLM looks for them
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="<|im_end|>",
        unk_token="<unk>",
        pad_token="<pad>",
        extra_special_tokens=named,
        chat_template=TEMPLATE.replace("MARKER", marker),
        clean_up_tokenization_spaces=False,
    )


def text_settings(tokenizer: Any) -> dict[str, Any]:
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return {**TEXT, "vocab_size": len(tokenizer), **ids}


def save_as_on_the_hub(model: Any, folder: Path) -> None:
    """A new model has transformers' names of the vision tower's tensors; the released checkpoints have older ones,
    which transformers keeps when it loads and saves such a checkpoint, and which vLLM reads.
    """
    from safetensors.torch import load_file, save_file

    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    older = {re.sub(r"^vision_tower\.", "vision_tower.vision_model.", name): value for name, value in tensors.items()}
    save_file(older, folder / "model.safetensors", {"format": "pt"})


def llava(folder: Path) -> None:
    """LLaVA 1.5: CLIP, two layers between, Llama; an image is 16 tokens."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = tokenizer_with("<image>", image_token="<image>")
    vision = CLIPVisionConfig(**VISION, image_size=56, patch_size=14, projection_dim=64)
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**text_settings(tokenizer)),
        image_token_index=tokenizer.image_token_id,
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    save_as_on_the_hub(LlavaForConditionalGeneration(config), folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    ).save_pretrained(folder)


def gemma3(folder: Path) -> None:
    """Gemma 3: SigLIP, pooled to 4 tokens an image, whose tokens all see one another."""
    import torch
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    tokenizer = tokenizer_with(
        "<start_of_image>",
        image_token="<image_soft_token>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
    )
    config = Gemma3Config(
        vision_config=SiglipVisionConfig(**VISION, **PATCHES),
        text_config=Gemma3TextConfig(**text_settings(tokenizer)),
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    torch.manual_seed(0)
    model: Any = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)  # begins as zeros
    save_as_on_the_hub(model, folder)
    images = Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    Gemma3Processor(images, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=4).save_pretrained(
        folder
    )


def idefics3(folder: Path) -> None:
    """Idefics 3, of which SmolVLM is a kind: SigLIP on tiles of the image, pixel shuffle, Llama."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor, LlamaConfig
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tiles = {f"tile_{row}_{column}": f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)}
    tokenizer = tokenizer_with(
        "<image>",
        image_token="<image>",
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
        end_of_utterance_token="<end_of_utterance>",
        **tiles,
    )
    config = Idefics3Config(
        vision_config={**VISION, "image_size": 56, "patch_size": 14},
        text_config=LlamaConfig(**text_settings(tokenizer)),
        image_token_id=tokenizer.image_token_id,
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=2,
    )
    torch.manual_seed(0)
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    images = Idefics3ImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=tokenizer.chat_template).save_pretrained(folder)


def qwen2_5_vl(folder: Path) -> None:
    """Qwen2.5-VL: windowed vision encoder at the image's own resolution, positions in three dimensions."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    tokens = {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}
    tokens |= {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    tokenizer = tokenizer_with("<|vision_start|><|image_pad|><|vision_end|>", **tokens)
    vision = {"depth": 2, "hidden_size": 64, "intermediate_size": 64, "num_heads": 1, "out_hidden_size": 128}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]}
    config = Qwen2_5_VLConfig(
        vision_config={**vision, "patch_size": 14, "fullatt_block_indexes": [1], "window_size": 56},
        text_config={**text_settings(tokenizer), "rope_parameters": rope},
        **{f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()},
    )
    torch.manual_seed(0)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 112 * 112})
    template = tokenizer.chat_template
    Qwen2_5_VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(), chat_template=template).save_pretrained(folder)


def minicpmv4_6(folder: Path) -> None:
    """MiniCPM-V 4.6: different slices, a merger in the encoder, Qwen 3.5 with layers of linear attention."""
    import torch
    from transformers import MiniCPMV4_6Config, MiniCPMV4_6ForConditionalGeneration, MiniCPMV4_6Processor
    from transformers.models.minicpmv4_6.image_processing_pil_minicpmv4_6 import MiniCPMV4_6ImageProcessorPil
    from transformers.models.minicpmv4_6.video_processing_minicpmv4_6 import MiniCPMV4_6VideoProcessor

    tags = {
        f"{name}_{side}_token": f"<{'/' * (side == 'end')}{name}>"
        for name in ("image", "slice", "image_id")
        for side in ("start", "end")
    }
    tokenizer = tokenizer_with("<|image_pad|>", image_token="<|image_pad|>", video_token="<|video_pad|>", **tags)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    text = {
        "model_type": "qwen3_5_text",
        "layer_types": ["linear_attention", "full_attention"],
        "rope_parameters": {**rope, "mrope_section": [4, 6, 6], "mrope_interleaved": True},
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 64,
        "linear_value_head_dim": 64,
    }
    config = MiniCPMV4_6Config(
        vision_config={**VISION, "num_hidden_layers": 3, "image_size": 112, "patch_size": 14},
        text_config={**text_settings(tokenizer), **text},
        insert_layer_id=1,
        image_size=112,
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
    )
    torch.manual_seed(0)
    MiniCPMV4_6ForConditionalGeneration(config).save_pretrained(folder)
    images = MiniCPMV4_6ImageProcessorPil(scale_resolution=112, patch_size=14, max_slice_nums=4)
    template = tokenizer.chat_template
    MiniCPMV4_6Processor(images, MiniCPMV4_6VideoProcessor(), tokenizer, chat_template=template).save_pretrained(folder)


@dataclass(frozen=True)
class Other:
    """How to make a model, and what it needs to be served: the code of most in vLLM imports torchvision, which the CPU
    set-up leaves out.
    """

    save: Callable[[Path], None]
    needs_torchvision: bool = True
    dtype: str = "float32"
    engine: dict[str, Any] = field(default_factory=dict)


OTHER_MODELS = {
    "gemma3": Other(gemma3),
    "idefics3": Other(idefics3, needs_torchvision=False),
    "llava": Other(llava),
    "minicpmv4_6": Other(minicpmv4_6, dtype="bfloat16", engine={"prefix_caching": False}),
    "qwen2_5_vl": Other(qwen2_5_vl),
}
