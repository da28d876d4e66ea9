"""What tells the published folders of MiniCPM-V 2.5 and 2.6 apart: special ids, template, keys, remote code.

Written from public descriptions, not copied.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.gguf.tokenizer import LLAMA_3, QWEN_2

FIRST_SPECIAL = 128_000  # of 2.5, as the next two
EOS, END_OF_TURN = 128_001, 128_009
NAMED = {
    0: "<|begin_of_text|>", 1: "<|end_of_text|>", 2: "<unk>", 6: "<|start_header_id|>", 7: "<|end_header_id|>",
    9: "<|eot_id|>", 10: "<image>", 11: "</image>", 12: "<ref>", 13: "</ref>", 14: "<box>", 15: "</box>", 16: "<quad>",
    17: "</quad>", 18: "<point>", 19: "</point>", 20: "<slice>", 21: "</slice>",
}  # fmt: skip
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
FAST = "MiniCPMVTokenizerFast"

QWEN_SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "</image>", "<ref>", "</ref>", "<box>", "</box>",
    "<quad>", "</quad>", "<point>", "</point>", "<slice>", "</slice>", "<image_id>", "</image_id>",
    *(f"<|reserved_special_token_{index}|>" for index in range(6)),
]  # fmt: skip
QWEN_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Release:
    """vocabulary_of_text: without the tokens that are added to it. special: id -> token. roles: of special tokens.
    more_special: those that tokenizer_config.json lists as additional. text_tokens: text that is declared special.
    pieces: the expression that cuts text before BPE. header_end: what stands before an answer. Of config, generation
    and images, the keys that differ. tokenizers: by variant. code: file of remote code -> the names that auto_map takes
    from it.
    """

    name: str
    version: str
    vocabulary: int
    vocabulary_of_text: int
    special: Mapping[int, str]
    roles: Mapping[str, str]
    more_special: tuple[str, ...]
    text_tokens: tuple[str, ...]
    template: str
    pieces: str
    header_end: str
    end_of_turn: str
    adds_bos: bool
    vision_type: str
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    images: Mapping[str, Any]
    tokenizers: Mapping[str, Mapping[str, Any]]
    code: Mapping[str, tuple[str, ...]]


LLAMA_SPECIAL = [NAMED.get(index, f"<|reserved_special_token_{index}|>") for index in range(256)]
V2_5 = Release(
    name="MiniCPM-Llama3-V-2_5",
    version="2.5",
    vocabulary=128_256,
    vocabulary_of_text=FIRST_SPECIAL,
    special=dict(enumerate(LLAMA_SPECIAL, FIRST_SPECIAL)),
    roles={
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|end_of_text|>",
        "pad_token": "!",
        "unk_token": "<unk>",
    },
    more_special=tuple(LLAMA_SPECIAL[10:22]),
    text_tokens=("!",),
    template=TEMPLATE,
    pieces=LLAMA_3,
    header_end="\n\n",
    end_of_turn="<|eot_id|>",
    adds_bos=True,
    vision_type="idefics2",
    config={
        "attention_bias": False,
        "bos_token_id": FIRST_SPECIAL,
        "eos_token_id": EOS,
        "max_position_embeddings": 8192,
        "mm_use_im_start_end": True,
        "pretraining_tp": 1,
        "query_num": 96,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 500000.0,
        "torch_dtype": "float16",
        "use_cache": False,
    },
    generation={"_from_model_config": True, "bos_token_id": FIRST_SPECIAL, "eos_token_id": EOS},
    images={"image_feature_size": 96, "im_id_start": "", "im_id_end": "", "use_image_id": False, "version": 2.5},
    tokenizers=TOKENIZERS,
    code={
        "configuration_minicpm": ("MiniCPMVConfig",),
        "modeling_minicpmv": ("MiniCPMV", WRAPPER),
        "processing_minicpmv": ("MiniCPMVProcessor",),
        "image_processing_minicpmv": ("MiniCPMVImageProcessor",),
        "tokenization_minicpmv_fast": (WRAPPER,),
        "resampler": (),
    },
)
V2_6 = Release(
    name="MiniCPM-V-2_6",
    version="2.6",
    vocabulary=151_666,
    vocabulary_of_text=151_643,
    special={128_244: "<unk>", **dict(enumerate(QWEN_SPECIAL, 151_643))},
    roles={
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<unk>",
    },
    more_special=tuple(QWEN_SPECIAL[3:]),
    text_tokens=(),
    template=QWEN_TEMPLATE,
    pieces=QWEN_2,
    header_end="\n",
    end_of_turn="<|im_end|>",
    adds_bos=False,
    vision_type="siglip",
    config={
        "bos_token_id": 151_643,
        "eos_token_id": 151_645,
        "max_position_embeddings": 32768,
        "max_window_layers": 2,
        "query_num": 64,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 131072,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_image_id": True,
        "use_sliding_window": False,
        "vision_batch_size": 16,
    },
    generation={
        "bos_token_id": 151_643,
        "do_sample": True,
        "eos_token_id": [151_645, 151_643],
        "pad_token_id": 151_643,
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.8,
    },
    images={
        "image_feature_size": 64,
        "im_id_start": "<image_id>",
        "im_id_end": "</image_id>",
        "use_image_id": True,
        "version": 2.6,
    },
    tokenizers={
        "wrapper": {
            "tokenizer_class": FAST,
            "auto_map": {"AutoTokenizer": [None, f"tokenization_minicpmv_fast.{FAST}"]},
        }
    },
    code={
        "configuration_minicpm": ("MiniCPMVConfig",),
        "modeling_minicpmv": ("MiniCPMV",),
        "modeling_navit_siglip": (),
        "processing_minicpmv": ("MiniCPMVProcessor",),
        "image_processing_minicpmv": ("MiniCPMVImageProcessor",),
        "tokenization_minicpmv_fast": (FAST,),
        "resampler": (),
    },
)
RELEASES = {release.version: release for release in (V2_5, V2_6)}
