"""A MiniCPM-V from a pre-trained language model, a pre-trained SigLIP encoder and a new resampler.

The paper's pre-training 1 starts from such a model (section 4.1). The image tags become special tokens of the language
model's tokenizer, whose chat template is kept; the encoder's position table is interpolated to `image_size`.
"""

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, SiglipVisionModel, set_seed

from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVImageProcessor, MiniCPMVProcessor
from model.modeling import LANGUAGE_MODELS
from model.vision import interpolated
from rlaif.errors import ModelError

LANGUAGE_KEYS = (  # copied from the configuration of the language model
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_act",
    "vocab_size", "rms_norm_eps", "rope_parameters", "max_position_embeddings", "initializer_range",
    "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip
VISION_KEYS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "patch_size", "hidden_act",
    "layer_norm_eps",
)  # fmt: skip


def assemble(
    llm: PreTrainedModel,
    vision: SiglipVisionModel,
    tokenizer: Any,
    version: str = "2.5",
    query_num: int = 96,
    image_size: int = 980,
    scale_resolution: int = 448,
) -> tuple[MiniCPMVForConditionalGeneration, MiniCPMVProcessor]:
    """The model and its processor.

    Args:
        query_num: tokens per slice.
        image_size: side of the position table in pixels, as in vision_config.
        scale_resolution: side in pixels of the square that has a slice's area.

    Errors: ModelError if the language model does not have the type that the version expects.
    """
    expected = LANGUAGE_MODELS[version].__name__.removesuffix("Model")
    if type(llm).__name__ != f"{expected}ForCausalLM":
        raise ModelError(
            f"version {version} has a {expected} language model, but {llm.name_or_path} is a {type(llm).__name__}; "
            "name another language model or version"
        )
    patch = vision.config.patch_size
    assert isinstance(patch, int)
    images = MiniCPMVImageProcessor(
        scale_resolution=scale_resolution,
        patch_size=patch,
        image_feature_size=query_num,
        version=version,
        use_image_id=version == "2.6",
    )
    tokenizer.add_special_tokens({"unk_token": images.unk, "extra_special_tokens": list(images.tags)})
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    processor = MiniCPMVProcessor(images, tokenizer)
    config = MiniCPMVConfig(
        version=version,
        **{key: getattr(llm.config, key) for key in LANGUAGE_KEYS},
        image_token_id=processor.image_token_id,
        query_num=query_num,
        image_size=scale_resolution,
        patch_size=patch,
        use_image_id=images.use_image_id,
        vision_config={"image_size": image_size} | {key: getattr(vision.config, key) for key in VISION_KEYS},
    )
    model = MiniCPMVForConditionalGeneration(config)
    model.model.language_model.load_state_dict(llm.base_model.state_dict())
    model.lm_head.load_state_dict(llm.get_output_embeddings().state_dict())
    model.model.vision_model.load_state_dict(encoder_weights(vision, image_size // patch))
    if len(tokenizer) > config.vocab_size:  # new tokens start as the mean of the others
        model.resize_token_embeddings(len(tokenizer))
    return model, processor


def encoder_weights(vision: SiglipVisionModel, side: int) -> dict[str, torch.Tensor]:
    """Weights without the pooling head; the position table [s * s, D] is interpolated (bicubic) to [side * side, D]."""
    weights = {
        name.removeprefix("vision_model."): value
        for name, value in vision.state_dict().items()
        if not name.removeprefix("vision_model.").startswith("head.")
    }
    name = "embeddings.position_embedding.weight"
    old = math.isqrt(weights[name].shape[0])
    (resized,) = interpolated(weights[name], torch.tensor([[side, side]]), side * side, old)
    return {**weights, name: resized}


def assemble_folder(
    llm: str, vision: str, out: Path, version: str, query_num: int, scale_resolution: int, seed: int
) -> int:
    """Assemble two models, folders or hub ids, and save the result. Returns its number of parameters.

    Errors: ModelError if one of the models cannot be loaded or has another type.
    """
    set_seed(seed)
    try:
        parts = (
            AutoModelForCausalLM.from_pretrained(llm, trust_remote_code=False, use_safetensors=True),
            SiglipVisionModel.from_pretrained(vision, use_safetensors=True),
            AutoTokenizer.from_pretrained(llm, trust_remote_code=False),
        )
    except (ValueError, OSError) as error:
        raise ModelError(" ".join(str(error).split())) from error
    model, processor = assemble(*parts, version, query_num, scale_resolution=scale_resolution)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return sum(parameter.numel() for parameter in model.parameters())
