"""Parsing of answers to yes/no questions, and their figures. Pure."""

from collections import Counter

from evaluation.statistics import Counts, Figures, f1, ratio
from rlaif.text import words


def first_word(answer: str) -> bool | None:
    """True or False if the answer starts with yes or no; None for anything else."""
    return {"yes": True, "no": False}.get(next(iter(words(answer)), ""))


def no_in_first_sentence(answer: str) -> bool:
    """False if the first sentence has the word no or not; True for anything else, as POPE reads answers.

    Source: evaluate.py of github AoiDragon/POPE. Unlike there, "NO" is a no, and words end at every punctuation mark.
    """
    return not {"no", "not"} & set(words(answer.partition(".")[0]))


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
