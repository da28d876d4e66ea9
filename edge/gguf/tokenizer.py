"""The tokenizer and the chat template of the processor as metadata of a GGUF file.

llama.cpp's kind is `gpt2`: byte-level BPE, with one of its own pre-tokenizers, which it knows by a name. The text that
the template writes begins with the first token itself, so llama.cpp must not add one (`add_bos_token`).
"""

import json
from typing import Any

from edge.gguf.file import Value
from model import MiniCPMVProcessor
from rlaif.errors import ModelError

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # tokenizer.ggml.token_type

GPT_2 = "gpt-2"  # the pattern of tokenizers' ByteLevel
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
PATTERNS = {LLAMA_3: "llama-bpe", QWEN_2: "qwen2"}

# A server puts the marker of an image before the text, without the line break that stands there in training. All its
# markers end so. A text with these characters gets a line break too.
CONTENTS = ("message['content']", 'message["content"]', "message.content")
MARKER_END = "__>"
WITH_LINE_BREAK = r"(message['content'] | replace('" + MARKER_END + "', '" + MARKER_END + r"\n'))"


def tokenizer_metadata(processor: MiniCPMVProcessor, vocabulary: int) -> dict[str, Value]:
    """vocabulary: rows of the embedding table; ids that the tokenizer lacks become unused tokens.

    Errors: ModelError: llama.cpp does not have this tokenizer.
    """
    tokenizer = processor.tokenizer
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    if backend["model"]["type"] != "BPE":
        raise ModelError(
            f"the tokenizer is of the kind {backend['model']['type']}, expected BPE, as MiniCPM-V 2.5 and 2.6 have; "
            "use the tokenizer of the model"
        )
    texts = {token_id: text for text, token_id in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    kinds = [token_kind(token_id in texts, added.get(token_id)) for token_id in range(vocabulary)]
    metadata: dict[str, Value] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre_tokenizer(backend),
        "tokenizer.ggml.tokens": [texts.get(token_id, f"[PAD{token_id}]") for token_id in range(vocabulary)],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [
            merge if isinstance(merge, str) else " ".join(merge) for merge in backend["model"]["merges"]
        ],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.eot_token_id": processor.end_of_turn,
        "tokenizer.chat_template": chat_template(tokenizer.chat_template),
    }
    roles = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "unknown": tokenizer.unk_token_id,
        "padding": tokenizer.pad_token_id,
    }
    return metadata | {f"tokenizer.ggml.{role}_token_id": found for role, found in roles.items() if found is not None}


def token_kind(known: bool, added: Any) -> int:
    """added: the tokenizer's entry of a token that is not of its BPE."""
    if not known:
        return UNUSED
    if added is None:
        return NORMAL
    return CONTROL if added.special else USER_DEFINED


def pre_tokenizer(backend: dict[str, Any]) -> str:
    """llama.cpp's name of how a tokenizer.json splits text before BPE. Errors: ModelError: none of those known here."""
    steps = backend["pre_tokenizer"]
    steps = steps["pretokenizers"] if steps["type"] == "Sequence" else [steps]
    patterns = [step["pattern"].get("Regex") for step in steps if step["type"] == "Split"]
    if not patterns and any(step["type"] == "ByteLevel" and step["use_regex"] for step in steps):
        return GPT_2
    if len(patterns) == 1 and patterns[0] in PATTERNS:
        return PATTERNS[patterns[0]]
    raise ModelError(
        f"the tokenizer splits text by {' and '.join(map(repr, patterns)) or 'nothing'}, expected the pattern of "
        "GPT-2, Llama 3 or Qwen 2, which llama.cpp knows by name; use the tokenizer of the model"
    )


def chat_template(template: str) -> str:
    """The template with a line break after the marker of an image."""
    for content in CONTENTS:
        template = template.replace(content, WITH_LINE_BREAK)
    return template
