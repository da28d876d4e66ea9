"""A folder as openbmb/MiniCPM-Llama3-V-2_5 is published, with tiny widths: its files, keys and special ids.

The vocabulary is a small BPE of our own, filled up to the published size. The weights write sentences about scenes, and
nothing else, so that answers can be labeled. The keys are written from public descriptions, not copied.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from scenes.world import COLORS, SHAPES

VOCABULARY = 128_256
FIRST_SPECIAL = 128_000
EOS, END_OF_TURN = 128_001, 128_009
NAMED = {
    0: "<|begin_of_text|>", 1: "<|end_of_text|>", 2: "<unk>", 6: "<|start_header_id|>", 7: "<|end_header_id|>",
    9: "<|eot_id|>", 10: "<image>", 11: "</image>", 12: "<ref>", 13: "</ref>", 14: "<box>", 15: "</box>", 16: "<quad>",
    17: "</quad>", 18: "<point>", 19: "</point>", 20: "<slice>", 21: "</slice>",
}  # fmt: skip
SPECIAL = [NAMED.get(index, f"<|reserved_special_token_{index}|>") for index in range(VOCABULARY - FIRST_SPECIAL)]
TEMPLATE = (  # always adds the assistant's header
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' "
    "+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
WRAPPER = "PreTrainedTokenizerFastWrapper"
# Where the release names its tokenizer's class, which differs by its revision; and what users have removed.
TOKENIZERS: dict[str, dict[str, Any]] = {
    "wrapper": {"tokenizer_class": WRAPPER, "auto_map": {"AutoTokenizer": [f"modeling_minicpmv.{WRAPPER}", None]}},
    "fast": {
        "tokenizer_class": WRAPPER,
        "auto_map": {"AutoTokenizer": [None, f"tokenization_minicpmv_fast.{WRAPPER}"]},
    },
    "plain": {"tokenizer_class": "PreTrainedTokenizerFast"},
    "notemplate": {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": None},
}
CODE = {  # file of remote code -> the names that auto_map takes from it
    "configuration_minicpm": ["MiniCPMVConfig"],
    "modeling_minicpmv": ["MiniCPMV", WRAPPER],
    "processing_minicpmv": ["MiniCPMVProcessor"],
    "image_processing_minicpmv": ["MiniCPMVImageProcessor"],
    "tokenization_minicpmv_fast": [WRAPPER],
    "resampler": [],
}
RAISES = "raise RuntimeError('remote code was executed')\n"
BASES = {  # of harmless classes, which other programs can load
    "MiniCPMVConfig": "LlamaConfig",
    "MiniCPMV": "LlamaForCausalLM",
    "MiniCPMVImageProcessor": "image_processing_utils.BaseImageProcessor",
    WRAPPER: "PreTrainedTokenizerFast",
}

# Sentences as a chain of words: those of a state, and the states that follow it.
CHAIN: dict[str, tuple[list[str], list[str]]] = {
    "first": (["A"], ["color"]),
    "color": ([f" {color}" for color in COLORS if color[0] not in "aeiou"], ["shape"]),
    "shape": ([f" {shape}" for shape in SHAPES], ["at"]),
    "at": ([" at"], ["the"]),
    "the": ([" the"], ["place"]),
    "place": ([" top", " bottom"], ["period", "exclamation"]),
    "period": (["."], ["next", "end"]),
    "exclamation": (["!"], ["end"]),
    "next": ([" A"], ["color"]),
    "end": (["<|eot_id|>"], []),
}
WORDS = [word for words, _ in CHAIN.values() for word in words if word != "<|eot_id|>"]


def own_backend() -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(own_vocabulary())


@cache
def own_vocabulary() -> str:
    """Byte-level BPE in which the words of the chain, yes, no and "!!" are tokens and "!" is id 0, as in Llama 3."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    words = [*WORDS, "yes", "no", " yes", " no", "Yes", "No", "!!", "\n\n", "user", "assistant"]
    tokenizer.train_from_iterator([word for word in words for _ in range(50)], trainer)
    values = json.loads(tokenizer.to_str())
    vocabulary = values["model"]["vocab"]
    vocabulary |= {f"filler{index}": index for index in range(len(vocabulary), FIRST_SPECIAL)}
    return json.dumps(values)


def llama_backend() -> Any | None:
    """Llama 3's own tokenizer, from the package llama-models; None where it is not installed. Nothing is imported."""
    from importlib.util import find_spec

    from transformers.convert_slow_tokenizer import TikTokenConverter

    spec = find_spec("llama_models")
    files = [Path(folder, "llama3", "tokenizer.model") for folder in (spec and spec.submodule_search_locations) or ()]
    file = next((file for file in files if file.is_file()), None)
    return None if file is None else TikTokenConverter(vocab_file=str(file), extra_special_tokens=SPECIAL).converted()


def write_tokenizer(folder: Path, backend: Any, variant: str, text_tokens: tuple[str, ...]) -> Any:
    """The three files of the tokenizer; text_tokens: declared special, as "!" is. Returns the backend."""
    from tokenizers import AddedToken, processors

    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in text_tokens])
    bos = SPECIAL[0]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, FIRST_SPECIAL)]
    )
    assert [backend.token_to_id(token) for token in ("!", *SPECIAL)] == [0, *range(FIRST_SPECIAL, VOCABULARY)]
    backend.save(str(folder / "tokenizer.json"))
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    more = SPECIAL[10:22]
    roles = {"bos_token": bos, "eos_token": SPECIAL[1], "pad_token": "!", "unk_token": "<unk>"}
    settings: dict[str, Any] = {
        "added_tokens_decoder": {
            str(backend.token_to_id(token)): {"content": token, **plain, "special": True}
            for token in [*text_tokens, *SPECIAL]
        },
        "additional_special_tokens": more,
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": True,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 1000000000000000019884624838656,
        "padding_side": "right",
        "truncation_side": "right",
        **roles,
        **TOKENIZERS[variant],
    }
    write_json(folder / "tokenizer_config.json", {key: value for key, value in settings.items() if value is not None})
    named: dict[str, Any] = {role: {"content": token, **plain} for role, token in roles.items()}
    named["additional_special_tokens"] = [{"content": token, **plain} for token in more]
    write_json(folder / "special_tokens_map.json", named)
    return backend


def write_json(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, indent=2), encoding="utf-8")


def write_configs(folder: Path) -> None:
    config = {
        "_name_or_path": "openbmb/MiniCPM-Llama3-V-2_5",
        "architectures": ["MiniCPMV"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "auto_map": {
            "AutoConfig": "configuration_minicpm.MiniCPMVConfig",
            "AutoModel": "modeling_minicpmv.MiniCPMV",
            "AutoModelForCausalLM": "modeling_minicpmv.MiniCPMV",
        },
        "batch_vision_input": True,
        "bos_token_id": FIRST_SPECIAL,
        "drop_vision_last_layer": False,
        "eos_token_id": EOS,
        "hidden_act": "silu",
        "hidden_size": 128,
        "image_size": 448,
        "initializer_range": 0.02,
        "intermediate_size": 128,
        "max_position_embeddings": 8192,
        "mm_use_im_start_end": True,
        "model_type": "minicpmv",
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 1,
        "patch_size": 14,
        "pretraining_tp": 1,
        "query_num": 96,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 500000.0,
        "slice_config": {"max_slice_nums": 9, "model_type": "minicpmv", "patch_size": 14},
        "slice_mode": True,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.40.0",
        "use_cache": False,
        "version": "2.5",
        "vision_config": {
            "hidden_size": 64,
            "image_size": 980,
            "intermediate_size": 64,
            "model_type": "idefics2",
            "num_attention_heads": 1,
            "num_hidden_layers": 1,
            "patch_size": 14,
        },
        "vocab_size": VOCABULARY,
    }
    write_json(folder / "config.json", config)
    ids = {"bos_token_id": FIRST_SPECIAL, "eos_token_id": EOS}
    write_json(folder / "generation_config.json", {"_from_model_config": True, **ids, "transformers_version": "4.40.0"})
    images = {
        "auto_map": {
            "AutoProcessor": "processing_minicpmv.MiniCPMVProcessor",
            "AutoImageProcessor": "image_processing_minicpmv.MiniCPMVImageProcessor",
        },
        "image_processor_type": "MiniCPMVImageProcessor",
        "processor_class": "MiniCPMVProcessor",
        "max_slice_nums": 9,
        "scale_resolution": 448,
        "patch_size": 14,
        "use_image_id": False,
        "image_feature_size": 96,
        "im_start": "<image>",
        "im_end": "</image>",
        "slice_start": "<slice>",
        "slice_end": "</slice>",
        "unk": "<unk>",
        "im_id_start": "",
        "im_id_end": "",
        "slice_mode": True,
        "norm_mean": [0.5, 0.5, 0.5],
        "norm_std": [0.5, 0.5, 0.5],
        "version": 2.5,
    }
    write_json(folder / "preprocessor_config.json", images)


def write_code(folder: Path, raises: bool) -> None:
    """The remote `.py` files: they raise when executed, or are stand-ins that plain transformers can load."""
    for name, classes in CODE.items():
        lines = ["import transformers", "from transformers import image_processing_utils, processing_utils", ""]
        lines += ["from .resampler import ORIGIN", ""] if name == "modeling_minicpmv" else ["ORIGIN = 'remote code'"]
        for kind in classes:
            if kind == "MiniCPMVProcessor":
                lines += [
                    f"class {kind}(processing_utils.ProcessorMixin):",
                    "    attributes = ['image_processor', 'tokenizer']",
                    "    image_processor_class = 'AutoImageProcessor'",
                    "    tokenizer_class = 'AutoTokenizer'",
                    "    def __init__(self, image_processor=None, tokenizer=None, **kwargs):",
                    "        super().__init__(image_processor, tokenizer)",
                ]
            else:
                lines += [f"class {kind}(transformers.{BASES[kind]}):", "    origin = ORIGIN"]
            lines += ["    model_type = 'minicpmv'"] * (kind == "MiniCPMVConfig")
        (folder / f"{name}.py").write_text(RAISES if raises else "\n".join([*lines, ""]), encoding="utf-8")


def write_weights(folder: Path, backend: Any) -> None:
    """float16 shards of a model that writes the sentences of CHAIN: a token's embedding lies along the axis of its
    state, and the output layer gives the words of the next states their share there.
    """
    import torch

    from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration

    def token(word: str) -> int:
        (token_id,) = backend.encode(word, add_special_tokens=False).ids
        return int(token_id)

    torch.manual_seed(0)
    config = MiniCPMVConfig.from_pretrained(folder)
    model: Any = MiniCPMVForConditionalGeneration(config)
    axes = {state: axis for axis, state in enumerate(["before", *CHAIN])}
    followers = {"before": ["first"]} | {state: following for state, (_, following) in CHAIN.items()}
    states = {token("\n\n"): "before"} | {token(word): state for state, (words, _) in CHAIN.items() for word in words}
    scale = math.sqrt(config.hidden_size)  # of the last norm's output along the axis of the state
    with torch.no_grad():
        embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        head.zero_()
        for token_id, state in states.items():
            embeddings[token_id] = 0
            embeddings[token_id, axes[state]] = 4.0
        for state, following in followers.items():
            for after in following:
                words = CHAIN[after][0]
                for word in words:
                    head[token(word), axes[state]] = (25.0 - math.log(len(words))) / scale
    model.half().save_pretrained(folder / "weights", max_shard_size="30MB")
    for file in (folder / "weights").glob("model*"):
        file.rename(folder / file.name)
    for file in (folder / "weights").iterdir():
        file.unlink()
    (folder / "weights").rmdir()


def save_published(
    folder: Path,
    variant: str = "wrapper",
    code_raises: bool = True,
    text_tokens: tuple[str, ...] = ("!",),
    backend: Any = None,
    with_weights: bool = True,
) -> None:
    """Write the folder; variant: of TOKENIZERS; text_tokens: text that its tokenizer declares special."""
    folder.mkdir(parents=True)
    write_configs(folder)
    write_code(folder, code_raises)
    tokenizer = write_tokenizer(folder, own_backend() if backend is None else backend, variant, text_tokens)
    if with_weights:
        write_weights(folder, tokenizer)
