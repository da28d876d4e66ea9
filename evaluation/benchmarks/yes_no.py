"""Answers to yes/no questions: how they are read, and the figures that they make. Pure."""

from collections import Counter

from evaluation.statistics import Counts, Figures, f1, ratio
from rlaif.text import words


def first_word(answer: str) -> bool | None:
    """True or False where the answer begins with yes or no; None: anything else."""
    return {"yes": True, "no": False}.get(next(iter(words(answer)), ""))


def no_in_first_sentence(answer: str) -> bool:
    """False where the first sentence has the word no or not; True for anything else, as POPE reads answers.

    Source: evaluate.py of github AoiDragon/POPE. Unlike there, "NO" is a no, and words end at every punctuation mark.
    """
    return not {"no", "not"} & set(words(answer.partition(".")[0]))


def answer_counts(kind: str, truth: bool, said: bool | None, positive: bool) -> Counts:
    """What one answer adds to the sums behind `yes_no_figures` of its kind; positive: the answer that is looked for."""
    return Counter(
        {
            f"{kind} asked": 1,
            f"{kind} right": int(said == truth),
            f"{kind} positive": int(truth == positive),
            f"{kind} said positive": int(said == positive),
            f"{kind} found": int(said == truth == positive),
            f"{kind} yes": int(said is True),
            f"{kind} unread": int(said is None),
        }
    )


def yes_no_figures(totals: Counts, kind: str) -> Figures:
    """accuracy, precision, recall and f1 of the positive answer; None where there is nothing to take a ratio of."""
    precision = ratio(totals[f"{kind} found"], totals[f"{kind} said positive"])
    recall = ratio(totals[f"{kind} found"], totals[f"{kind} positive"])
    return {
        "accuracy": ratio(totals[f"{kind} right"], totals[f"{kind} asked"]),
        "precision": precision,
        "recall": recall,
        "f1": f1(precision, recall),
    }
