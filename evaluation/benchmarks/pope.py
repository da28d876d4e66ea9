"""POPE: is an object in the image? Half of the questions are about present objects, half about absent ones.

Source: Li et al. 2023, arXiv 2305.10355; files and rules of github RUCAIBox/POPE. Absent objects are
drawn at random, from the most frequent objects (popular), or from those that most often occur together with an object
of the image (adversarial).

    FOLDER/*pope*random.json, *pope*popular.json, *pope*adversarial.json    one or more of them, of one data set:
        coco_pope_random.json, aokvqa_pope_seem_random.json, gqa_pope_seem_random.json, ...
        a JSON list, or one JSON object per line: question_id, image (a file name), text (the question), label (yes, no)
    FOLDER/images/                                                          or benchmark.images

| figure of each kind            |                                                                           |
|--------------------------------|---------------------------------------------------------------------------|
| accuracy                       | by the published rule, which reads every answer as yes or no              |
| precision, recall, f1          | of the answer yes, by the published rule                                  |
| yes_ratio                      | answers that are yes by the published rule / answers                      |
| read_accuracy, read_f1         | the same where the answer's own yes or no counts; an unread one is wrong  |
| unread                         | answers that say neither yes nor no; pope_unread: of all kinds            |
"""

from dataclasses import dataclass
from pathlib import Path

from evaluation.benchmarks.questions import Question, field, number_of, one_file, read_records
from evaluation.benchmarks.yes_no import pope_rule, read_answer, yes_no_counts, yes_no_figures
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
        published = yes_no_counts(kind, label, pope_rule(answer), positive=True)
        return published + yes_no_counts(f"{kind} read", label, read_answer(answer), positive=True)

    def figures(self, totals: Counts) -> Figures:
        """See Benchmark."""
        kinds = {kind for kind, _ in self.labels.values()}
        figures: Figures = {}
        for kind in (kind for kind in KINDS if kind in kinds):
            figures |= {f"{kind}_{name}": value for name, value in yes_no_figures(totals, kind).items()}
            figures[f"{kind}_yes_ratio"] = ratio(totals[f"{kind} yes"], totals[f"{kind} questions"])
            read = yes_no_figures(totals, f"{kind} read")
            figures |= {f"{kind}_read_{name}": read[name] for name in ("accuracy", "f1")}
            figures[f"{kind}_unread"] = totals[f"{kind} read unread"]
            figures[f"{kind}_questions"] = totals[f"{kind} questions"]
        figures["pope_unread"] = sum(totals[f"{kind} read unread"] for kind in kinds)
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
    present = [kind for kind in KINDS if any(folder.glob(f"*pope*{kind}.json"))]
    return {kind: one_file(folder, f"*pope*{kind}.json") for kind in present or KINDS}
