"""The vision part of a policy folder: its sizes, and its tensors by released name, without the language model."""

from pathlib import Path

import numpy as np

from edge.vision.shape import VisionShape
from model.configuration import MiniCPMVConfig, MiniCPMVVisionConfig
from model.resampler import HEAD_WIDTH, LAYER_NORM_EPS
from rlaif.errors import InputError, ModelError
from rlaif.storage.files import read_json

PARTS = ("vpm.", "resampler.")

Tensors = dict[str, np.ndarray]  # by name


def read_shape(policy: Path) -> VisionShape:
    """The sizes of the policy's vision part.

    Errors: ModelError: position embeddings that no exported graph computes.
    """
    config = MiniCPMVConfig.from_pretrained(policy)
    vision = config.vision_config
    assert isinstance(vision, MiniCPMVVisionConfig)
    if vision.position_embedding_type == "interpolate":
        raise ModelError(
            f"{policy} interpolates its position embeddings for each slice, which no graph here computes; exported are "
            "bucket_1d and bucket_2d (vision_config.position_embedding_type); run this policy with DEVICE=torch"
        )
    return VisionShape(
        width=vision.hidden_size,
        layers=vision.num_hidden_layers,
        heads=vision.num_attention_heads,
        eps=vision.layer_norm_eps,
        patch=vision.patch_size,
        resolution=read_json(policy / "preprocessor_config.json").get("scale_resolution", config.image_size),
        positions=vision.position_embedding_type,
        table_side=vision.image_size // vision.patch_size,
        queries=config.query_num,
        out_width=config.hidden_size,
        out_heads=max(config.hidden_size // HEAD_WIDTH, 1),
        out_eps=LAYER_NORM_EPS,
    )


def read_tensors(policy: Path) -> Tensors:
    """The tensors of PARTS in float32, by their released names. Errors: InputError: a file that is damaged."""
    from safetensors import SafetensorError, safe_open

    tensors: Tensors = {}
    for file in sorted(policy.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118  # not a dict
                    if name.startswith(PARTS):
                        tensors[name] = opened.get_tensor(name).float().numpy()
        except SafetensorError as error:
            raise InputError(f"{file} is damaged or truncated ({error}); copy it again") from error
    if not tensors:
        raise ModelError(
            f"{policy} has no tensors of a vision encoder; expected vpm.* and resampler.* of MiniCPM-V 2.5 or 2.6 "
            "in its *.safetensors; give another policy"
        )
    return tensors
