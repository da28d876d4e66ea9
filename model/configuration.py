"""Configuration of MiniCPM-V in the released layout: the fields of the language model, and `vision_config`.

It determines every size: the same code is the released 8.5B model or one of a few million parameters.
"""

from typing import Any

from transformers import LlamaConfig, PretrainedConfig

# position embeddings of the patches of a slice; see `model.vision`
POSITIONS = ("interpolate", "bucket_1d", "bucket_2d")
# that of the released checkpoint of each version
RELEASED_POSITIONS = {"2.5": "bucket_1d", "2.6": "bucket_2d"}


class MiniCPMVVisionConfig(PretrainedConfig):
    """SigLIP vision encoder.

    `image_size` determines the side of the position table (image_size / patch_size); images can have any size.
    `position_embedding_type` is one of POSITIONS. Released configs do not have it: `MiniCPMVConfig` then sets
    RELEASED_POSITIONS of its version.
    """

    model_type = "idefics2"  # as in the released 2.5 checkpoint
    base_config_key = "vision_config"

    hidden_size: int = 1152
    intermediate_size: int = 4304
    num_hidden_layers: int = 27
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 980
    patch_size: int = 14
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    position_embedding_type: str = ""  # empty: that of the version


class MiniCPMVConfig(LlamaConfig):
    """MiniCPM-V 2.5 (language model Llama) or 2.6 (Qwen2); the defaults are the constants of the released 2.5.

    `image_token_id` is the id of the placeholder `<unk>`.
    """

    model_type = "minicpmv"
    default_theta = 500000.0
    sub_configs = {"vision_config": MiniCPMVVisionConfig}  # noqa: RUF012

    version: str = "2.5"
    hidden_size: int = 4096
    intermediate_size: int = 14336
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 8
    vocab_size: int = 128256
    rms_norm_eps: float = 1e-5
    max_position_embeddings: int = 8192
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001
    pad_token_id: int | None = None  # torch would not train the embedding of a token that pads; 0 is "!"
    image_token_id: int = 128002
    query_num: int = 96
    image_size: int = 448
    patch_size: int = 14
    max_slice_num: int = 9  # vLLM's name; the released config has it in slice_config
    slice_mode: bool = True
    slice_config: dict[str, Any] | None = None
    batch_vision_input: bool = True
    drop_vision_last_layer: bool = False
    use_image_id: bool = False  # 2.6 numbers the images in the prompt
    tie_word_embeddings: bool = False
    sliding_window: int | None = None  # read by Qwen2 only
    layer_types: list[str] | None = None
    vision_config: dict[str, Any] | PretrainedConfig | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.version = str(self.version)
        if self.version not in RELEASED_POSITIONS:
            raise ValueError(
                f"MiniCPM-V version {self.version!r} is not supported; allowed: "
                f"{', '.join(map(repr, RELEASED_POSITIONS))}. Set `version` in config.json to that of the model."
            )
        if self.vision_config is None:
            self.vision_config = MiniCPMVVisionConfig()
        elif isinstance(self.vision_config, dict):
            self.vision_config = MiniCPMVVisionConfig(
                **{key: value for key, value in self.vision_config.items() if key != "model_type"}
            )
        vision = self.vision_config
        if not vision.position_embedding_type:
            vision.position_embedding_type = RELEASED_POSITIONS[self.version]
        if vision.position_embedding_type not in POSITIONS:
            raise ValueError(
                f"vision_config.position_embedding_type is {vision.position_embedding_type!r}; "
                f"allowed: {', '.join(map(repr, POSITIONS))}. Correct it in config.json."
            )
        if self.slice_config is None:
            self.slice_config = {"max_slice_nums": self.max_slice_num, "patch_size": self.patch_size}
        self.max_slice_num = self.slice_config["max_slice_nums"]
        self.sliding_window = None
        self.layer_types = ["full_attention"] * self.num_hidden_layers
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The dict of transformers 5, plus the keys that it renamed, for readers of the released layout."""
        output = super().to_dict()
        output["architectures"] = ["MiniCPMV"]
        if self.rope_parameters is not None:
            output["rope_theta"] = self.rope_parameters["rope_theta"]
        return output

    def to_diff_dict(self) -> dict[str, Any]:
        """What is saved: as of transformers 5, plus the older name of dtype, which `to_dict` must not have:
        transformers would read each of its keys as an attribute, and warn of this one.
        """
        output = super().to_diff_dict()
        if output.get("dtype") is not None:
            output["torch_dtype"] = output["dtype"]
        return output
