"""The tokenizer as metadata of a GGUF file."""

import json
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment

from edge.gguf.export import write_language
from edge.gguf.tokenizer import (
    CONTROL,
    LLAMA_3,
    NORMAL,
    QWEN_2,
    UNUSED,
    USER_DEFINED,
    chat_template,
    pre_tokenizer,
    tokenizer_metadata,
)
from edge.policy import Policy, load_processor
from model.processing import TEMPLATES
from rlaif.errors import ModelError
from tests.support import ROOT
from tests.support.published.minicpmv import save_published
from tests.support.published.releases import END_OF_TURN, EOS, FIRST_SPECIAL, TEMPLATE
from tests.support.tiny import save_tiny_model

SPLIT_LLAMA_3 = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LLAMA_3}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2.5", "2.6"])
def test_tokens_kinds_and_special_ids(version: str, tmp_path: Path) -> None:
    save_tiny_model(tmp_path, version=version)
    processor = load_processor(tmp_path)
    tokenizer: Any = processor.tokenizer
    metadata: dict[str, Any] = tokenizer_metadata(processor, len(tokenizer) + 2)
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert len(tokens) == len(kinds) == len(tokenizer) + 2
    assert tokens[-1] == f"[PAD{len(tokenizer) + 1}]" and kinds[-2:] == [UNUSED] * 2
    for text in ("<image>", "</slice>", "<unk>"):
        assert kinds[tokens.index(text)] == CONTROL
    assert kinds[tokens.index("a")] == NORMAL
    end = {"2.5": "<|eot_id|>", "2.6": "<|im_end|>"}[version]
    assert tokens[metadata["tokenizer.ggml.eot_token_id"]] == end
    assert tokens[metadata["tokenizer.ggml.bos_token_id"]] == "<|begin_of_text|>"
    assert metadata["tokenizer.ggml.add_bos_token"] is False
    assert metadata["tokenizer.ggml.pre"] == "gpt-2"
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    assert [merge.split(" ") for merge in metadata["tokenizer.ggml.merges"]] == [list(merge) for merge in merges]


@pytest.mark.slow
def test_the_published_tokenizer_keeps_its_text_tokens(tmp_path: Path) -> None:
    """The release declares "!" special; llama.cpp would leave a control token out of its answers."""
    save_published(tmp_path / "model", with_weights=False)
    metadata: dict[str, Any] = tokenizer_metadata(load_processor(tmp_path / "model"), 128_256)
    kinds = metadata["tokenizer.ggml.token_type"]
    assert kinds[0] == USER_DEFINED and kinds[FIRST_SPECIAL:] == [CONTROL] * 256
    assert metadata["tokenizer.ggml.eos_token_id"] == EOS
    assert metadata["tokenizer.ggml.eot_token_id"] == END_OF_TURN
    assert metadata["tokenizer.ggml.padding_token_id"] == EOS  # "!" no longer pads


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        (SPLIT_LLAMA_3, "llama-bpe"),
        (json.loads(json.dumps(SPLIT_LLAMA_3).replace("{1,3}", "")), "qwen2"),
        ({"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, "gpt-2"),
    ],
)
def test_pre_tokenizers_that_llama_cpp_knows(steps: dict[str, Any], name: str) -> None:
    assert pre_tokenizer({"pre_tokenizer": steps}) == name


@pytest.mark.parametrize(
    "steps",
    [
        {"type": "Split", "pattern": {"Regex": r"\s+"}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
    ],
)
def test_other_pre_tokenizers_are_refused(steps: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"expected the pattern of GPT-2, Llama 3 or Qwen 2"):
        pre_tokenizer({"pre_tokenizer": steps})


def test_patterns_differ_in_digits_alone() -> None:
    assert QWEN_2 != LLAMA_3 and QWEN_2.replace(r"|\p{N}|", r"|\p{N}{1,3}|") == LLAMA_3


@pytest.mark.parametrize("template", [TEMPLATE, *TEMPLATES.values()])
def test_a_line_break_follows_the_marker_of_an_image(template: str) -> None:
    """As in training; a server puts the marker before the text without one."""

    def render(source: str, content: str) -> str:
        messages = [{"role": "user", "content": content}]
        return Environment().from_string(source).render(messages=messages, bos_token="B", add_generation_prompt=True)

    changed = chat_template(template)
    assert render(changed, "<__media__>Hi") == render(template, "<__media__>\nHi")
    assert render(changed, "Hi\nthere") == render(template, "Hi\nthere")


@pytest.mark.slow
def test_llama_cpp_reads_text_and_template_as_the_processor(llama_cpp: Any, tmp_path: Path) -> None:
    folder = ROOT / "assets" / "policy"
    processor = load_processor(folder)
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    file = write_language(Policy(folder, "x", "0"), tmp_path)
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), params)
    vocabulary = llama_cpp.llama_model_get_vocab(model)

    def tokenize(text: str, special: bool) -> list[int]:
        data, ids = text.encode(), (llama_cpp.llama_token * 400)()
        count = llama_cpp.llama_tokenize(vocabulary, data, len(data), ids, len(ids), True, special)
        assert count >= 0
        return list(ids[:count])

    try:
        for text in (
            "A red car.",
            "Isn't it 1234, or  12?\n\n- \t \u732b caf\u00e9!!",
            " two  spaces ",
            "\n",
        ):
            assert tokenize(text, special=False) == processor.encode_text(text)
        assert tokenize("<unk> <image>", special=False) == processor.encode_text("<unk> <image>")
        rendered = processor.render([{"role": "user", "content": "What is it?"}], add_generation_prompt=True)
        assert tokenize(rendered, special=True) == processor.encode_special(rendered)
        assert llama_cpp.llama_vocab_is_eog(vocabulary, processor.end_of_turn)
    finally:
        llama_cpp.llama_model_free(model)
