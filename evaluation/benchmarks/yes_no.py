"""Parsing of answers to yes/no questions, and their figures. Pure.

Three rules, because published figures depend on them:

| answer                         | `read_answer` (ours) | `pope_rule` | `amber_rule` |
|--------------------------------|----------------------|-------------|--------------|
| Yes                            | yes                  | yes         | yes          |
| No.                            | no                   | no          | unread       |
| No!                            | no                   | yes         | unread       |
| Yes, there is no doubt         | yes                  | no          | unread       |
| There isn't one                | no                   | yes         | unread       |
| I cannot tell. (or no answer)  | unread               | yes         | unread       |
| 没有                           | no                   | yes         | unread       |
"""

import re
from collections import Counter

from evaluation.statistics import Counts, Figures, f1, ratio
from rlaif.text import words

_FIRST_WORDS = {
    **dict.fromkeys(("yes", "yeah", "yep", "ja"), True),
    **dict.fromkeys(("no", "nope", "none", "nein"), False),
}
_VERBS = frozenset({"is", "are", "s", "was", "were", "isn", "aren", "wasn", "weren"})
_NEGATIONS = frozenset({"no", "not", "t", "none", "nothing", "never"})
# "There is no way to tell" answers neither yes nor no
_UNSURE = frozenset({
    "cannot", "clear", "determine", "doubt", "enough", "impossible", "information", "maybe", "perhaps", "possible",
    "possibly", "sure", "tell", "unclear", "unsure", "way",
})  # fmt: skip
_PREFIX = re.compile(
    r"\W*(?:(?:the |my )?answer(?: is)?\b|答案(?:是)?|回答)?\W*"
    r"(?:在?(?:这|這|该|該|此)?[张張幅]?(?:图片|圖片|图像|圖像|照片|画面|畫面|图|圖)[中里裡上内內]?\W*)?",
    re.IGNORECASE,
)
_CHINESE_YES = re.compile(r"是(?!否|不是)|有(?!可能|没|沒)|对(?!不)|對(?!不)|存在|没错|沒錯|确实|確實|当然|當然")
_CHINESE_NO = re.compile(r"否|不是|不存在|不在|不(?=\W|$)|[没沒](?!错|錯|有?[法办辦])|[无無](?!法)|[并並][没沒不无無]")


def read_answer(answer: str) -> bool | None:
    """True or False if an answer says yes or no; None for anything else. The first word decides.

    English, Chinese and German; without yes or no, "There is a ..." and "There is no ..." are read too.
    """
    rest = answer[end.end() :] if (end := _PREFIX.match(answer)) else answer
    if _CHINESE_NO.match(rest):
        return False
    if _CHINESE_YES.match(rest):
        return True
    found = words(re.split(r"[.!?\n]", rest, maxsplit=1)[0])
    first = next(iter(found), "")
    if first in _FIRST_WORDS:
        return _FIRST_WORDS[first]
    if first == "there" and found[1:2] and found[1] in _VERBS and not _UNSURE.intersection(found):
        return not _NEGATIONS.intersection(found[2:4])
    return None


def pope_rule(answer: str) -> bool:
    """False if the first sentence has the word No, no or not; True for anything else, an empty answer included.

    Source: evaluate.py of github RUCAIBox/POPE: a sentence ends at a full stop, a word at a space, commas are skipped.
    """
    return not {"No", "no", "not"} & set(answer.split(".")[0].replace(",", "").split(" "))


def amber_rule(answer: str) -> bool | None:
    """True for exactly Yes, False for exactly No; None, which is always wrong, for anything else.

    Source: inference.py of github junyangwang0410/AMBER. White space around the answer is skipped.
    """
    return {"Yes": True, "No": False}.get(answer.strip())


def yes_no_counts(kind: str, truth: bool, predicted: bool | None, positive: bool) -> Counts:
    """What one answer adds to the sums behind `yes_no_figures` of its kind; positive: the positive class, yes or no."""
    return Counter(
        {
            f"{kind} questions": 1,
            f"{kind} correct": int(predicted == truth),
            f"{kind} positive": int(truth == positive),
            f"{kind} predicted positive": int(predicted == positive),
            f"{kind} true positive": int(predicted == truth == positive),
            f"{kind} yes": int(predicted is True),
            f"{kind} unread": int(predicted is None),
        }
    )


def yes_no_figures(totals: Counts, kind: str) -> Figures:
    """accuracy, and precision, recall and f1 of the positive class; None where a denominator is zero."""
    precision = ratio(totals[f"{kind} true positive"], totals[f"{kind} predicted positive"])
    recall = ratio(totals[f"{kind} true positive"], totals[f"{kind} positive"])
    return {
        "accuracy": ratio(totals[f"{kind} correct"], totals[f"{kind} questions"]),
        "precision": precision,
        "recall": recall,
        "f1": f1(precision, recall),
    }
