"""Is a question, or a claim, one sentence that does not say what to answer? Nothing else is put to a labeler."""

import re

ABBREVIATIONS = "approx|ave|blvd|ca|capt|cf|dept|dr|etc|fig|gen|inc|jr|ltd|max|min|mr|mrs|ms|mt|no|prof|sr|st|vs"
# The end of a sentence that another follows: a line break, an unquoted ? or !, or a full stop that does not belong to
# an initial or an abbreviation.
_SENTENCE_END = re.compile(
    rf"""\n|[?!](?=\s+\S|[^\s"'\u201d\u2019)\]?!.,;:])|[\u3002\uff01\uff1f](?=\s*\w)"""
    rf"|\b(?!(?:{ABBREVIATIONS})\.)\w\w+[*_)\]]*\.\s+(?=\S)",
    re.IGNORECASE,
)
_LEADING = re.compile(r"[{}]|\b(?:answer|reply|respond)(?:ing|s|ed)?\b.*\b(?:yes|no|true|false)\b", re.IGNORECASE)


def is_unfit(text: str) -> bool:
    """Whether a question or claim has several sentences or braces, or dictates an answer."""
    return bool(_SENTENCE_END.search(text) or _LEADING.search(text))
