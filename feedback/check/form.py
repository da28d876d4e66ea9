"""Is a question, or a claim, one sentence that does not say what to answer? Nothing else is put to a labeler."""

import re

# What stands in quotation marks is text in the picture: its full stops end no sentence. An apostrophe is not one.
_QUOTED = re.compile(
    r"\"[^\"\n]*\"|\u201c[^\u201d\n]*\u201d|\u201e[^\u201c\u201d\n]*[\u201c\u201d]|\u00ab[^\u00bb\n]*\u00bb"
    r"|\u300c[^\u300d\n]*\u300d|\u300e[^\u300f\n]*\u300f|\u300a[^\u300b\n]*\u300b"
    r"|(?<!\w)'[^'\n]*(?:'\w[^'\n]*)*'(?!\w)|(?<!\w)\u2018[^\u2019\n]*(?:\u2019\w[^\u2019\n]*)*\u2019(?!\w)"
)
ABBREVIATIONS = "approx|ave|blvd|bzw|ca|capt|cf|dept|dr|etc|fig|gen|inc|jr|ltd|max|min|mr|mrs|ms|mt|no|nr|prof|sr|st|vs"
# The end of a sentence that another follows: a line break, ? or !, or a full stop that does not belong to an initial
# or an abbreviation.
_SENTENCE_END = re.compile(
    rf"""\n|[?!](?=\s+\S|[^\s"'\u201d\u2019)\]?!.,;:])|[\u3002\uff01\uff1f](?=\s*\w)"""
    rf"|\b(?!(?:{ABBREVIATIONS})\.)\w\w+[*_)\]]*\.\s+(?=\S)",
    re.IGNORECASE,
)
# A text that says what to answer. It is looked for in quotation marks too.
_DICTATES = re.compile(
    r"\b(?:answer|reply|respond)(?:ing|s|ed)?\b.*\b(?:yes|no|true|false)\b|\bsay (?:yes|no)\b"
    r"|\bantwort\w*\b.*\b(?:ja|nein|wahr|falsch)\b|\br[\u00e9e]pon\w*\b.*\b(?:oui|non|s[\u00edi])\b"
    r"|\brespond\w*\b.*\b(?:s[\u00edi]|no)\b|(?:\u56de\u7b54|\u56de\u590d|\u8f93\u51fa|\u7b54\u6848).*[\u662f\u5426\u5bf9]",
    re.IGNORECASE,
)


def is_unfit(text: str) -> bool:
    """Whether a question or claim has several sentences, quotations aside, or dictates an answer."""
    return bool(_SENTENCE_END.search(_QUOTED.sub("\u2026", text)) or _DICTATES.search(text))


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence, without the space around it; a full stop in quotation marks ends none."""
    masked = _QUOTED.sub(lambda match: "\u2026" * len(match[0]), text)
    ends = [match.end() for match in _SENTENCE_END.finditer(masked)]
    spans = []
    for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
        if part := text[start:end].strip():
            start += text[start:end].index(part)
            spans.append((start, start + len(part)))
    return spans
