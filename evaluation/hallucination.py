"""Object hallucination of answers whose truth is known. Pure functions.

Notable choices:
- object hallucination follows CHAIR (Rohrbach et al. 2018, arXiv 1809.02156): the share of false mentions; beside it
  the response level of Object HalBench (RLHF-V, arXiv 2312.00849; RLAIF-V, arXiv 2405.17220), always with recall and
  length, because an answer that says less hallucinates less;
- a mention is whatever `evaluation.truth` can check: besides objects also numbers, colors, places, relations and the
  words of a sign, where CHAIR has names of objects only;
- a ratio whose denominator is zero is None, never 0;
- an object that an answer mentions twice counts as two mentions, as in CHAIR; the labeler divides it into one claim,
  and Object HalBench counts a word once an answer (`object_halbench_mention_rate` of evaluation/benchmarks/chair.py);
- figures are computed from sums of counts, which `evaluation.statistics` resamples.
"""

from collections import Counter
from collections.abc import Sequence

from evaluation.statistics import Counts, Figures, ratio
from evaluation.truth import Truth
from rlaif.text import words


def answer_counts(text: str, truth: Truth | None) -> Counts:
    """What one answer adds to the sums behind `hallucination_figures`; truth None: only its words count."""
    if truth is None:
        return mention_counts(text, [], 0, 0)
    return mention_counts(text, truth.check_mentions(text), truth.count_objects_found(text), truth.num_objects)


def mention_counts(text: str, mentions: Sequence[bool], objects_found: int, num_objects: int) -> Counts:
    """The same from what is known of its mentions: whether each is true, and how many objects they find."""
    false = mentions.count(False)
    return Counter(
        answers=1,
        words=len(words(text)),
        mentions=len(mentions),
        false_mentions=false,
        answers_with_mentions=int(len(mentions) > 0),
        answers_with_false_mentions=int(false > 0),
        objects_found=objects_found,
        objects=num_objects,
    )


def hallucination_figures(totals: Counts) -> Figures:
    """The figures of a set of answers, from the sums of their `answer_counts`.

    - mention_rate: false mentions / all mentions (CHAIR_i);
    - response_rate: answers with a false mention / answers with a mention. This is the response-level rate of
      Object HalBench (`CHAIRs_refine` in its code), not CHAIR_s, which divides by all answers: here an answer that
      mentions nothing does not lower the rate;
    - recall: objects found / objects, summed over all answers;
    - mean_words: words (as `rlaif.text` counts them) per answer;
    - responses: answers counted.
    """
    return {
        "mention_rate": ratio(totals["false_mentions"], totals["mentions"]),
        "response_rate": ratio(totals["answers_with_false_mentions"], totals["answers_with_mentions"]),
        "recall": ratio(totals["objects_found"], totals["objects"]),
        "mean_words": ratio(totals["words"], totals["answers"]),
        "responses": totals["answers"],
    }


def change(before: Figures, after: Figures) -> Figures:
    """Change of the figures: rates and means relative to before (-0.5: halved), recall in points.

    Counts are skipped. None where a figure is None, or was 0 before.
    """
    moved: Figures = {}
    for name, old in before.items():
        new = after.get(name)
        if isinstance(old, int):
            continue
        if old is None or new is None:
            moved[name] = None
        else:
            moved[name] = new - old if name == "recall" else ratio(new - old, old)
    return moved
