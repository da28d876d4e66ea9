"""A MiniCPM-V to begin pre-training with: a language model and a SigLIP encoder that exist, and a new resampler.

    make assemble LLM=meta-llama/Meta-Llama-3-8B-Instruct VISION=google/siglip-so400m-patch14-384

The paper's stage 1 starts from such a model (section 4.1). The image tags become special tokens of the language model's
tokenizer, whose chat template stays; the encoder's position table is interpolated to `image_size`.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, SiglipVisionModel, set_seed

from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVImageProcessor, MiniCPMVProcessor
from model.modeling import LANGUAGE_MODELS
from model.vision import interpolated

SHARED = (  # of a language model's configuration
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_act",
    "vocab_size", "rms_norm_eps", "rope_parameters", "max_position_embeddings", "initializer_range",
    "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip
SHARED_VISION = (
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
    """The model and its processor. `image_size`: side of the position table in pixels, as in the vision_config.

    Errors: ValueError: a language model that the version has not.
    """
    wanted = LANGUAGE_MODELS[version].__name__.removesuffix("Model")
    if type(llm).__name__ != f"{wanted}ForCausalLM":
        raise ValueError(
            f"version {version} has a {wanted} language model, and {llm.name_or_path} is {type(llm).__name__}"
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
        **{key: getattr(llm.config, key) for key in SHARED},
        image_token_id=processor.image_token_id,
        query_num=query_num,
        image_size=scale_resolution,
        patch_size=patch,
        use_image_id=images.use_image_id,
        vision_config={"image_size": image_size} | {key: getattr(vision.config, key) for key in SHARED_VISION},
    )
    model = MiniCPMVForConditionalGeneration(config)
    model.model.language_model.load_state_dict(llm.base_model.state_dict())
    model.lm_head.load_state_dict(llm.get_output_embeddings().state_dict())
    model.model.vision_model.load_state_dict(encoder_weights(vision, image_size // patch))
    if len(tokenizer) > config.vocab_size:  # new tokens start as the mean of the known ones
        model.resize_token_embeddings(len(tokenizer))
    return model, processor


def encoder_weights(vision: SiglipVisionModel, side: int) -> dict[str, torch.Tensor]:
    """Without the pooling head; the position table [s * s, D] interpolated (bicubic) to [side * side, D]."""
    weights = {
        name.removeprefix("vision_model."): value
        for name, value in vision.state_dict().items()
        if not name.removeprefix("vision_model.").startswith("head.")
    }
    name = "embeddings.position_embedding.weight"
    old = math.isqrt(weights[name].shape[0])
    (fitted,) = interpolated(weights[name], torch.tensor([[side, side]]), side * side, old)
    return {**weights, name: fitted}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.assemble", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--llm", required=True, help="folder or hub id of a Llama (2.5) or Qwen2 (2.6) model")
    parser.add_argument("--vision", required=True, help="folder or hub id of a SigLIP model")
    parser.add_argument("--out", required=True, type=Path, help="folder for the model")
    parser.add_argument("--version", choices=sorted(LANGUAGE_MODELS), default="2.5")
    parser.add_argument("--queries", type=int, default=96, help="tokens a slice becomes (2.6: 64)")
    parser.add_argument("--scale-resolution", type=int, default=448, help="side of the square a slice has the area of")
    parser.add_argument("--seed", type=int, default=0, help="of the resampler's first weights")
    arguments = parser.parse_args(argv)
    if arguments.out.exists():
        print(f"error: {arguments.out} exists; nothing in it is overwritten: name another folder", file=sys.stderr)
        return 2
    set_seed(arguments.seed)
    try:
        model, processor = assemble(
            AutoModelForCausalLM.from_pretrained(arguments.llm, trust_remote_code=False, use_safetensors=True),
            SiglipVisionModel.from_pretrained(arguments.vision, use_safetensors=True),
            AutoTokenizer.from_pretrained(arguments.llm, trust_remote_code=False),
            arguments.version,
            arguments.queries,
            scale_resolution=arguments.scale_resolution,
        )
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    model.save_pretrained(arguments.out)
    processor.save_pretrained(arguments.out)
    print(f"assembled {arguments.out}: {sum(value.numel() for value in model.parameters()):,} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
