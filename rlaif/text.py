"""Splits texts into words, and sanitizes text for requests to a model.

All comparisons of texts (claims with their response, lengths of chosen and rejected) count words in the same way.
In scripts without spaces (Chinese, Japanese, Korean syllables, Thai and its neighbors) each character is a word.
"""

import re
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W_])+")
# The same for ASCII texts, faster: lower case, and a space for each character that is not a letter or digit.
_ASCII_WORDS = "".join(chr(code).lower() if chr(code).isalnum() else " " for code in range(128))
_ENDING = re.compile(r"(?<=\w{3})(?:es|s|ed|ing|e)$")

# Words without content: a claim may add or lose them when it paraphrases a sentence.
_FUNCTION_WORDS = frozenset(
    word
    for line in (
        "a an the this that these those there here it its itself he him his she her they them their we us our i me my",
        "you your is are was were be been being am do does did has have had having will would can could may might",
        "shall should must and or but nor so as if then than because while although though also too very just only",
        "both each either any some all no not t s of in on at to from by with for into onto over under up down out",
        "about what which who whom whose where when why how image picture photo photograph scene show shows shown",
        "depict depicts see seen visible appear appears",
    )
    for word in line.split()
)

# Text that looks like a chat-template token or image marker: <|eot_id|>, <image>, </slice>, <row_1_col_2>, [INST].
_MARKER = re.compile(
    r"\(<image>\./</image>\)|<[|\uff5c][^<>\s]{1,64}[|\uff5c]>|</?[A-Za-z_][\w.-]{0,62}/?>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|IMG|IMG_BREAK|IMG_END|gMASK)\]"
)
# Control characters except line feed and tab; invisible marks that reorder or split text; surrogates; private use.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ue000-\uf8ff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")

_NUMBER = re.compile("[0-9\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d\u5341]+")
LOOP_TAIL = 1000  # characters
LOOP_RATIO = 0.2  # compressed / original; captions of the scenes compress to 0.4 at least, prose to 0.5


def words(text: str) -> list[str]:
    """Lower-cased words in order."""
    return text.translate(_ASCII_WORDS).split() if text.isascii() else _WORD.findall(text.lower())


def is_unspaced(word: str) -> bool:
    """Whether a word is a character of a script that has no spaces between words."""
    return _UNSPACED_CHARACTER.fullmatch(word) is not None


def content_words(text: str) -> list[str]:
    """Words with content, in order, without endings: "There are two dogs, barking" -> two, dog, bark."""
    return list(filter(None, map(_content, words(text))))


@lru_cache(maxsize=2**16)
def _content(word: str) -> str:
    """The word without its ending; empty for a function word."""
    return "" if word in _FUNCTION_WORDS else without_ending(word)


def without_ending(word: str) -> str:
    """An English word without -s, -es, -ed, -ing or -e, if three letters are left: "barking" -> "bark"."""
    return _ENDING.sub("", word)


def share_in(text: str, vocabulary: set[str]) -> float:
    """Share of the content words of `text` that are in `vocabulary`; 1.0 for a text without any."""
    content = content_words(text)
    return sum(map(vocabulary.__contains__, content)) / len(content) if content else 1.0


def clean(text: str) -> str:
    """`text` without control characters (line breaks and tabs stay), its markers broken by a space, stripped.

    A response is untrusted text: inside a request it must not act as part of the chat template. "<|eot_id|>" becomes
    "< |eot_id|>", so what a response says stays readable: "List< String>". Breaking one marker can complete no other.
    """
    text = _CONTROL.sub("", text)
    while _MARKER.search(text):
        text = _MARKER.sub(lambda marker: f"{marker[0][0]} {marker[0][1:]}", text)
    return text.strip()


def special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """The texts that a tokenizer of transformers encodes as special tokens, image tokens included."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return tuple(sorted({*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}))


def break_special_tokens(text: str, tokens: Iterable[str]) -> str:
    """`text` with a space after the first character of each special token in it, so that it is tokenized as text.

    For models whose prompt is rendered and tokenized as one string, where user text and template tokens look alike.
    MiniCPM-V tokenizes them separately and needs no such change.
    """
    present = [token for token in tokens if len(token) > 1 and token in text]
    if not present:
        return text
    starts = "|".join(f"(?<={re.escape(token[0])})(?={re.escape(token[1:])})" for token in present)
    return re.sub(starts, " ", text)


def replace_surrogates(text: str) -> str:
    """`text` with the replacement character for lone surrogates, which a table cannot hold."""
    return _SURROGATE.sub("\ufffd", text)


def is_degenerate(text: str) -> bool:
    """Whether `text` ends in a repetition loop: its last 1,000 characters compress to less than a fifth.

    Compression detects loops of any length, of letters or of sentences, in any script. Lines that differ in their
    numbers only, such as rows of seats, are no loop: they are compared without the numbers, and each once.
    """
    tail = text[-LOOP_TAIL:]
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    if len(lines) > 2 and len(set(lines)) == len(lines):
        tail = "\n".join(dict.fromkeys(_NUMBER.sub("0", line) for line in lines))
    encoded = tail.encode("utf-8", "replace")
    return len(zlib.compress(encoded, 9)) < LOOP_RATIO * len(encoded)
