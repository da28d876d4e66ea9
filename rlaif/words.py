"""Words of a text, and text made safe to put into a request.

Everything that compares texts (claims with their response, lengths of chosen and rejected) counts words in one way.
Scripts written without spaces (Chinese, Japanese, Korean syllables, Thai and its neighbours) count a word a character,
so that a Chinese answer is not one word.
"""

import re

_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W_])+")
_ENDING = re.compile(r"(?<=\w{3})(?:es|s|ed|ing|e)$")

# Words that carry no fact by themselves: a claim may add or lose them when a sentence is put in other words.
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

# What looks like a token of a chat template or an image marker: <|eot_id|>, <image>, </slice>, <s>.
_MARKER = re.compile(r"<\|[^<>|\s]{1,64}\|>|</?[A-Za-z_]{1,32}>")
# Control characters but line feed and tab; invisible marks that reorder or split text; surrogates; private use.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ue000-\uf8ff]"
)


def words(text: str) -> list[str]:
    """Lower-cased words in order."""
    return _WORD.findall(text.lower())


def content_words(text: str) -> list[str]:
    """Words that carry a fact, in order, without endings: "There are two dogs, barking" -> two, dog, bark."""
    return [_ENDING.sub("", word) for word in words(text) if word not in _FUNCTION_WORDS]


def share_in(text: str, vocabulary: set[str]) -> float:
    """Share of the content words of `text` that are in `vocabulary`; 1.0 for a text without any."""
    own = content_words(text)
    return sum(word in vocabulary for word in own) / len(own) if own else 1.0


def clean(text: str) -> str:
    """`text` without markers and control characters (line breaks and tabs stay), stripped.

    A response is text that another model wrote about someone's picture: what it says must not act as a part of the
    request it is put into. Markers are removed until none is left, because removing one can complete another
    ("<|eot<s>_id|>").
    """
    text = _CONTROL.sub("", text)
    while (shorter := _MARKER.sub("", text)) != text:
        text = shorter
    return text.strip()
