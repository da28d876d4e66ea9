"""A folder as MiniCPM-V 2.5 or 2.6 is published, with tiny widths: its files, keys and special ids.

The vocabulary is a small BPE of our own, filled up to the published size. The weights write sentences about scenes, and
nothing else, so that answers can be labeled. What tells the versions apart is in `tests.support.published.releases`.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from scenes.world.things import COLORS
from tests.support.published.releases import RELEASES, V2_5, Release
from tests.support.published.remote_code import write_code

# Sentences as a chain of words: those of a state, and the states that follow it. The word of "end" is the end token.
CHAIN: dict[str, tuple[list[str], list[str]]] = {
    "first": (["A"], ["color"]),
    "color": ([f" {color}" for color in COLORS if color[0] not in "aeiou"], ["thing"]),
    "thing": ([" car", " book", " bird", " chair"], ["at"]),
    "at": ([" at"], ["the"]),
    "the": ([" the"], ["place"]),
    "place": ([" top", " bottom"], ["period", "exclamation"]),
    "period": (["."], ["next", "end"]),
    "exclamation": (["!"], ["end"]),
    "next": ([" A"], ["color"]),
    "end": ([], []),
}
WORDS = [word for words, _ in CHAIN.values() for word in words]


def own_backend(release: Release) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(own_vocabulary(release.version))


@cache
def own_vocabulary(version: str) -> str:
    """Byte-level BPE in which the words of the chain, yes, no and "!!" are tokens, "!" is id 0, and text is cut into
    pieces as in the release.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    release = RELEASES[version]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(release.pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    words = [*WORDS, "yes", "no", " yes", " no", "Yes", "No", "!!", "\n\n", "user", "assistant"]
    tokenizer.train_from_iterator([word for word in words for _ in range(50)], trainer)
    values = json.loads(tokenizer.to_str())
    vocabulary = values["model"]["vocab"]
    fillers = range(len(vocabulary), release.vocabulary_of_text)
    vocabulary |= {release.special.get(index, f"filler{index}"): index for index in fillers}
    return json.dumps(values)


def llama_backend() -> Any | None:
    """Llama 3's own tokenizer, from the package llama-models; None where it is not installed. Nothing is imported."""
    from importlib.util import find_spec

    from transformers.convert_slow_tokenizer import TikTokenConverter

    spec = find_spec("llama_models")
    files = [Path(folder, "llama3", "tokenizer.model") for folder in (spec and spec.submodule_search_locations) or ()]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return None
    return TikTokenConverter(vocab_file=str(file), extra_special_tokens=list(V2_5.special.values())).converted()


def write_tokenizer(folder: Path, release: Release, backend: Any, variant: str, text_tokens: tuple[str, ...]) -> None:
    """The three files of the tokenizer; text_tokens: declared special, as "!" is in 2.5."""
    from tokenizers import AddedToken, processors

    special = [*release.special.values(), *text_tokens]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if release.adds_bos:
        bos = release.roles["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    assert backend.token_to_id("!") == 0
    assert [backend.token_to_id(token) for token in release.special.values()] == list(release.special)
    backend.save(str(folder / "tokenizer.json"))
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    more = list(release.more_special)
    settings: dict[str, Any] = {
        "added_tokens_decoder": {
            str(backend.token_to_id(token)): {"content": token, **plain, "special": True}
            for token in [*text_tokens, *release.special.values()]
        },
        "additional_special_tokens": more,
        "chat_template": release.template,
        "clean_up_tokenization_spaces": True,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 1000000000000000019884624838656,
        "padding_side": "right",
        "truncation_side": "right",
        **release.roles,
        **release.tokenizers[variant],
    }
    write_json(folder / "tokenizer_config.json", {key: value for key, value in settings.items() if value is not None})
    named: dict[str, Any] = {role: {"content": token, **plain} for role, token in release.roles.items()}
    named["additional_special_tokens"] = [{"content": token, **plain} for token in more]
    write_json(folder / "special_tokens_map.json", named)


def write_json(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, indent=2), encoding="utf-8")


def write_configs(folder: Path, release: Release) -> None:
    config = {
        "_name_or_path": f"openbmb/{release.name}",
        "architectures": ["MiniCPMV"],
        "attention_dropout": 0.0,
        "auto_map": {
            "AutoConfig": "configuration_minicpm.MiniCPMVConfig",
            "AutoModel": "modeling_minicpmv.MiniCPMV",
            "AutoModelForCausalLM": "modeling_minicpmv.MiniCPMV",
        },
        "batch_vision_input": True,
        "drop_vision_last_layer": False,
        "hidden_act": "silu",
        "hidden_size": 128,
        "image_size": 448,
        "initializer_range": 0.02,
        "intermediate_size": 128,
        "model_type": "minicpmv",
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 1,
        "patch_size": 14,
        "slice_config": {"max_slice_nums": 9, "model_type": "minicpmv", "patch_size": 14},
        "slice_mode": True,
        "tie_word_embeddings": False,
        "transformers_version": "4.40.0",
        "version": release.version,
        "vision_config": {
            "hidden_size": 64,
            "image_size": 980,
            "intermediate_size": 64,
            "model_type": release.vision_type,
            "num_attention_heads": 1,
            "num_hidden_layers": 1,
            "patch_size": 14,
        },
        "vocab_size": release.vocabulary,
        **release.config,
    }
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", {**release.generation, "transformers_version": "4.40.0"})
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
        "im_start": "<image>",
        "im_end": "</image>",
        "slice_start": "<slice>",
        "slice_end": "</slice>",
        "unk": "<unk>",
        "slice_mode": True,
        "norm_mean": [0.5, 0.5, 0.5],
        "norm_std": [0.5, 0.5, 0.5],
        **release.images,
    }
    write_json(folder / "preprocessor_config.json", images)


def write_weights(folder: Path, release: Release, backend: Any) -> None:
    """Shards in half precision of a model that writes the sentences of CHAIN: a token's embedding lies along the axis
    of its state, and the output layer gives the words of the next states their share there.
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
    chain = CHAIN | {"end": ([release.end_of_turn], [])}
    states = {token(release.header_end): "before"}
    states |= {token(word): state for state, (words, _) in chain.items() for word in words}
    scale = math.sqrt(config.hidden_size)  # of the last norm's output along the axis of the state
    with torch.no_grad():
        embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        head.zero_()
        for token_id, state in states.items():
            embeddings[token_id] = 0
            embeddings[token_id, axes[state]] = 4.0
        for state, following in followers.items():
            for after in following:
                words = chain[after][0]
                for word in words:
                    head[token(word), axes[state]] = (25.0 - math.log(len(words))) / scale
    model.to(getattr(torch, release.config["torch_dtype"])).save_pretrained(folder / "weights", max_shard_size="30MB")
    for file in (folder / "weights").glob("model*"):
        file.rename(folder / file.name)
    for file in (folder / "weights").iterdir():
        file.unlink()
    (folder / "weights").rmdir()


def save_published(
    folder: Path,
    variant: str = "wrapper",
    code_raises: bool = True,
    text_tokens: tuple[str, ...] | None = None,
    backend: Any = None,
    with_weights: bool = True,
    release: Release = V2_5,
) -> None:
    """Write the folder; variant: of the release's tokenizers; text_tokens: text that its tokenizer declares special."""
    folder.mkdir(parents=True)
    write_configs(folder, release)
    write_code(folder, release, code_raises)
    backend = own_backend(release) if backend is None else backend
    write_tokenizer(folder, release, backend, variant, release.text_tokens if text_tokens is None else text_tokens)
    if with_weights:
        write_weights(folder, release, backend)
