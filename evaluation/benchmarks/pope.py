"""POPE: is an object in the image? Half of the questions are about present objects, half about absent ones.

Source: Li et al. 2023, arXiv 2305.10355; files and rules of github AoiDragon/POPE. Absent objects are
drawn at random, from the most frequent objects (popular), or from those that most often occur together with an object
of the image (adversarial).

    FOLDER/*pope_random.json, *pope_popular.json, *pope_adversarial.json    one or more of them
        one JSON object per line: question_id, image (a file name), text (the question), label ("yes" or "no")
    FOLDER/images/                                                          or benchmark.images

Figures of each kind: accuracy; precision, recall and F1 of "yes"; the share of "yes" among the answers.
"""

from dataclasses import dataclass
from pathlib import Path

from evaluation.benchmarks.questions import Question, field, number_of, one_file, read_records
from evaluation.benchmarks.yes_no import no_in_first_sentence, yes_no_counts, yes_no_figures
from evaluation.statistics import Counts, Figures, ratio
from rlaif.config import BenchmarkSection
from rlaif.errors import InputError

KINDS = ("random", "popular", "adversarial")


@dataclass(frozen=True)
class Pope:
    """questions; labels: question_id -> (kind, whether the object is there)."""

    questions: list[Question]
    labels: dict[str, tuple[str, bool]]

    def count(self, question: Question, answer: str) -> Counts:
        """See Benchmark."""
        kind, label = self.labels[question.question_id]
        return yes_no_counts(kind, label, no_in_first_sentence(answer), positive=True)

    def figures(self, totals: Counts) -> Figures:
        """See Benchmark."""
        kinds = {kind for kind, _ in self.labels.values()}
        figures: Figures = {}
        for kind in (kind for kind in KINDS if kind in kinds):
            figures |= {f"{kind}_{name}": value for name, value in yes_no_figures(totals, kind).items()}
            figures[f"{kind}_yes_ratio"] = ratio(totals[f"{kind} yes"], totals[f"{kind} questions"])
            figures[f"{kind}_questions"] = totals[f"{kind} questions"]
        return figures


def read_pope(folder: Path, section: BenchmarkSection) -> Pope:
    """The questions of all files. Errors: InputError if there is none, or one is not as published."""
    pope = Pope([], {})
    for kind, file in _files(folder, section).items():
        for number, record in enumerate(read_records(file)[: section.limit], start=1):
            where = f"{file}, record {number}"
            question_id = f"{kind}-{number_of(record, 'question_id', where)}"
            image, label = field(record, "image", str, where), field(record, "label", str, where)
            if label not in ("yes", "no"):
                raise InputError(f"{where}: label {label!r}; allowed: yes, no; get the file again")
            if question_id in pope.labels:
                raise InputError(f"{where}: duplicate question_id {question_id.rpartition('-')[2]}; get the file again")
            pope.labels[question_id] = (kind, label == "yes")
            pope.questions.append(Question(question_id, image, field(record, "text", str, where), image))
    return pope


def _files(folder: Path, section: BenchmarkSection) -> dict[str, Path]:
    if section.questions is not None:
        file = one_file(folder, section.questions)
        for kind in KINDS:
            if file.stem.endswith(kind):
                return {kind: file}
        raise InputError(f"{file}: the name must end with the kind of its questions; allowed: {', '.join(KINDS)}")
    present = [kind for kind in KINDS if any(folder.glob(f"*pope_{kind}.json"))]
    return {kind: one_file(folder, f"*pope_{kind}.json") for kind in present or KINDS}
