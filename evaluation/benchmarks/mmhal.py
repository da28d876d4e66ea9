"""MMHal-Bench: open questions about images, rated from 0 to 6 against what is known; below 3 is a hallucination.

Source: Sun et al. 2023, arXiv 2309.14525 (LLaVA-RLHF), data set Shengcao1006/MMHal-Bench.

    FOLDER/response_template.json     a list of: question, question_type, gt_answer, image_content (a list), image_id,
                                      image_src (a URL, never fetched)
    FOLDER/images/                    or benchmark.images; a file named as the URL ends, or as the image_id

The original rates once with a paid model, and counts an unreadable rating as 0. Here a local model rates several times
(rating.py), figures are means over all ratings, and an unreadable rating is skipped and counted separately, because it
says nothing about the answer.

| figure                    |                                                                   |
|---------------------------|-------------------------------------------------------------------|
| score                     | mean rating, 0 to 6                                               |
| hallucination_rate        | ratings below 3 / ratings                                         |
| score_<type>              | mean rating of one type of question                               |
| score_run_1, ...          | mean rating of one run: how consistent the rater is               |
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from evaluation.benchmarks.questions import Question, field, images_folder, one_file, read_records, texts
from evaluation.statistics import Counts, Figures, ratio
from rlaif.config import BenchmarkSection
from rlaif.text import clean

RATINGS = range(7)
HALLUCINATION_BELOW = 3
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Known:
    """What is known about a question, for the rater."""

    question: str
    answer: str
    objects: Sequence[str]
    kind: str


@dataclass(frozen=True)
class MMHal:
    """questions; known: by question_id; runs: ratings per answer."""

    questions: list[Question]
    known: dict[str, Known]
    runs: int

    def request(self, prompt: str, question_id: str, response: str) -> str:
        """The request to rate an answer. The answer is cleaned, so that nothing in it acts as part of the request."""
        known = self.known[question_id]
        parts = {
            "{image_content}": ", ".join(known.objects),
            "{question}": known.question,
            "{gt_answer}": known.answer,
            "{response}": clean(response),  # last, so that placeholders in it are not replaced
        }
        for placeholder, text in parts.items():
            prompt = prompt.replace(placeholder, text)
        return prompt

    def count(self, question: Question, ratings: Mapping[int, int]) -> Counts:
        """What one answer adds to the sums; ratings: by run, without the unreadable ones."""
        kind = self.known[question.question_id].kind
        counts: Counts = Counter(unrated=self.runs - len(ratings))
        for run, rating in ratings.items():
            counts.update({"ratings": 1, f"{kind} ratings": 1, f"run {run} ratings": 1})
            counts.update({"score": rating, f"{kind} score": rating, f"run {run} score": rating})
            counts.update(hallucinations=int(rating < HALLUCINATION_BELOW))
        return counts

    def figures(self, totals: Counts) -> Figures:
        """The figures of these sums."""
        kinds = dict.fromkeys(known.kind for known in self.known.values())
        return {
            "score": ratio(totals["score"], totals["ratings"]),
            "hallucination_rate": ratio(totals["hallucinations"], totals["ratings"]),
            **{f"score_{kind}": ratio(totals[f"{kind} score"], totals[f"{kind} ratings"]) for kind in kinds},
            **{
                f"score_run_{run + 1}": ratio(totals[f"run {run} score"], totals[f"run {run} ratings"])
                for run in range(self.runs)
            },
            "ratings": totals["ratings"],
            "unrated": totals["unrated"],
        }


def read_mmhal(folder: Path, section: BenchmarkSection) -> MMHal:
    """The questions with what is known about them. Errors: InputError: the file is missing or not as published."""
    names = (section.questions,) if section.questions else ("response_template.json", "*answer_template.json")
    path = one_file(folder, *names)
    images = images_folder(folder, section)
    mmhal = MMHal([], {}, section.rater.runs)
    for number, record in enumerate(read_records(path)[: section.limit], start=1):
        where = f"{path}, record {number}"
        image_id, question = field(record, "image_id", str, where), field(record, "question", str, where)
        objects = texts(field(record, "image_content", list, where), f"{where}: image_content")
        answer, kind = field(record, "gt_answer", str, where), field(record, "question_type", str, where)
        mmhal.known[str(number)] = Known(question, answer, objects, kind)
        mmhal.questions.append(Question(str(number), image_id, question, _image(record, images, where)))
    return mmhal


def _image(record: dict[str, Any], images: Path, where: str) -> str:
    """The name of the image's file: the first of its possible names that exists, else the first of all."""
    names = [PurePosixPath(field(record, "image_src", str, where)).name]
    names += [f"{record['image_id']}{ending}" for ending in _ENDINGS]
    return next((name for name in names if name and (images / name).is_file()), names[0] or names[1])
