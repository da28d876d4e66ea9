"""Short questions before and after alignment: a policy that is aligned on descriptions must not lose its short answers.

The questions come from the truth of the images of the evaluation split, or from a table of image, question and answer
(`evaluation.short_answers.path`). An answer is correct if it equals an expected one, compared as in VQA (arXiv
1505.00468): lower case, without punctuation and articles, number words as digits. Nothing else is left out: a
description around the right word counts as wrong, as does "Red." where "It is red." is expected.

Figures compare the same questions: one that a policy cannot take is skipped on both sides.
"""

import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from evaluation.statistics import Counts, Figures, intervals, ratio, total
from evaluation.truth import TruthLookup, truth_of
from rlaif.config import Config
from rlaif.errors import InputError
from rlaif.inference.engine import REFUSALS, Engine, Request
from rlaif.progress import progress_bar
from rlaif.records.conversation import take_marks
from rlaif.records.files import open_files
from rlaif.report.figures import format_with_interval
from rlaif.sources.cells import image_of
from rlaif.sources.images import load_images
from rlaif.sources.picture import Picture, UnusableImageError, redacted
from rlaif.sources.splits import find_problem
from rlaif.storage.files import make_id
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from rlaif.storage.writer import TableWriter
from rlaif.text import replace_surrogates, words

SIDES = ("before", "after")
QUESTIONS_PER_CHUNK = 500
_TOKEN = re.compile(r"\d+(?:[.:]\d+)*|[^\W\d_]+")
_ARTICLES = {"a", "an", "the"}
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS)}


@dataclass(frozen=True)
class ShortQuestion:
    """kind: questions of a kind also have figures of their own; "": they have not. answers: each is correct."""

    question_id: str
    image_id: str
    kind: str
    text: str
    answers: tuple[str, ...]
    image: bytes


def has_short_questions(config: Config) -> bool:
    """Whether short questions are asked: there is a table of them, or a source of images whose truth may be known."""
    section = config.evaluation.short_answers
    return section.limit > 0 and (section.path is not None or config.data.source == "scenes")


def short_questions(run: Run, truth_of: TruthLookup = truth_of) -> Iterator[ShortQuestion]:
    """The questions of a run, at most `limit`, those about one image next to each other."""
    section = run.config.evaluation.short_answers
    questions = truth_questions(run, truth_of) if section.path is None else table_questions(run)
    return islice(questions, section.limit)


def truth_questions(run: Run, truth_of: TruthLookup) -> Iterator[ShortQuestion]:
    """Questions about the images of the evaluation split whose truth is known; the same in every run on them."""
    columns = ["prompt_id", "image", "image_sha256", "source", "reference"]
    for row in read_rows(run, "prompts", columns, {"split": run.config.evaluation.split}):
        if truth := truth_of(row["source"], row["reference"]):
            rng = random.Random(f"short/{row['prompt_id']}")
            for kind, text, answer in truth.short_questions(rng):
                question_id = make_id(row["prompt_id"], text)
                yield ShortQuestion(question_id, row["image_sha256"], kind, text, (answer,), row["image"]["bytes"])


@dataclass(frozen=True)
class AskedPicture(Picture):
    """The picture of a row of a table, with the answers to its question."""

    answers: tuple[str, ...] = ()


def table_questions(run: Run) -> Iterator[ShortQuestion]:
    """The questions of the table, in its order; a row that cannot be used is dropped with its reason.

    Errors: InputError for a table that cannot be read, lacks a column, or has no usable row.
    """
    config = run.config
    known: set[str] = set()
    dropped: Counter[str] = Counter()

    def drop(row_id: str, reason: str, detail: str) -> None:
        dropped[reason] += 1
        run.drop(row_id, reason, detail)

    for picture, image in load_images(table_pictures(config), config.data.image_hosts, config.data.max_pixels):
        (text,) = picture.instructions
        if isinstance(image, UnusableImageError):
            drop(picture.name, image.reason, str(image))
        elif problem := find_problem(text, config.data.max_instruction_chars):
            drop(picture.name, *problem)
        elif not picture.answers:
            drop(picture.name, "missing_answer", "the answer is not a text, a number or a list of them")
        else:
            assert isinstance(text, str)
            question_id = make_id(image.sha256, text)
            if question_id in known:
                drop(picture.name, "duplicate_question", f"repeats an earlier image and question: {text}")
                continue
            known.add(question_id)
            yield ShortQuestion(question_id, image.sha256, "", text, picture.answers, image.content)
    if not known:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "it has no rows"
        raise InputError(
            f"{config.evaluation.short_answers.path} has no usable question ({reasons}); expected an image, a question "
            "and an answer in each row; correct the table or evaluation.short_answers"
        )


def table_pictures(config: Config) -> Iterator[AskedPicture]:
    """The rows of `evaluation.short_answers.path`. Errors: InputError."""
    section = config.evaluation.short_answers
    assert section.path is not None
    columns = {name: getattr(section, name) for name in ("image_column", "question_column", "answer_column")}
    for table in open_files(Path(section.path), "evaluation.short_answers.path"):
        for key, column in columns.items():
            if column not in table.columns:
                raise InputError(
                    f"{table.title} has no column {column!r}; it has: {', '.join(table.columns)}; set "
                    f"evaluation.short_answers.{key}"
                )
        for record in table.rows(list(columns.values())):
            image = path = None
            fault = UnusableImageError("unfit_row", record.fault) if record.fault else None
            text = record.values.get(section.question_column)
            try:
                image, path = image_of(record.values.get(section.image_column))
            except UnusableImageError as error:
                fault = UnusableImageError(error.reason, f"{record.where}: {error}")
            yield AskedPicture(
                record.name,
                image,
                [take_marks(text)[0] if isinstance(text, str) else text if isinstance(text, bytes) else None],
                redacted(path or record.name),
                folders=table.folders,
                fault=fault,
                answers=answers_in(record.values.get(section.answer_column)),
            )


def answers_in(cell: Any) -> tuple[str, ...]:
    """The answers in a cell: a text or number, or a list of them, or of `{"answer": ...}` as in VQA; else none."""
    if isinstance(cell, list):
        return tuple(dict.fromkeys(answer for item in cell for answer in answers_in(item)))
    if isinstance(cell, dict):
        return answers_in(cell.get("answer"))
    if isinstance(cell, bool):
        return ("yes" if cell else "no",)
    if isinstance(cell, int | float):
        return (f"{cell:g}",)
    return (cell.strip(),) if isinstance(cell, str) and cell.strip() else ()


def short_writer(run: Run) -> TableWriter:
    return TableWriter(run, "short_answers", key=("which", "question_id"))


def remaining(which: str, questions: Iterable[ShortQuestion], writer: TableWriter) -> Iterator[ShortQuestion]:
    """The questions that a policy has not answered yet."""
    return (question for question in questions if (which, question.question_id) not in writer.done)


def write_answers(
    run: Run, which: str, questions: Iterable[ShortQuestion], engine: Engine, writer: TableWriter
) -> None:
    """Rows of `short_answers`: greedy answers of a policy; one that it cannot take is dropped."""
    section, questions = run.config.evaluation.short_answers, iter(questions)
    with progress_bar(f"short answers {which}", "question", total=None) as bar:
        while chunk := list(islice(questions, QUESTIONS_PER_CHUNK)):
            requests = [
                Request(item.text + section.suffix, item.image, seed=run.config.seed, max_tokens=section.max_tokens)
                for item in chunk
            ]
            answers = engine.generate(requests, bar.update)
            for question, request, (answer,) in zip(chunk, requests, answers, strict=True):
                if answer.finish_reason in REFUSALS:
                    run.drop(question.question_id, answer.finish_reason, which)
                    continue
                text = replace_surrogates(answer.text)
                row = {
                    "which": which,
                    "question_id": question.question_id,
                    "image_id": question.image_id,
                    "kind": question.kind,
                    "question": request.text,
                    "expected": list(question.answers),
                    "text": text,
                    "correct": is_correct(text, question.answers),
                    "finish_reason": answer.finish_reason,
                    "num_tokens": answer.num_tokens,
                }
                writer.write([row])
            writer.flush()


def is_correct(text: str, answers: Sequence[str]) -> bool:
    """Whether a text equals one of the answers, both normalized."""
    return normalized(text) in {normalized(answer) for answer in answers}


def normalized(text: str) -> str:
    """ "A Red car." -> "red car", "Two" -> "2", "1,000" -> "1000"; a text without letters or digits as it is."""
    folded = unicodedata.normalize("NFKC", text).casefold().strip()
    tokens = _TOKEN.findall(re.sub(r"(?<=\d),(?=\d{3})", "", folded))
    kept = [_DIGITS.get(token, token) for token in tokens if token not in _ARTICLES]
    return " ".join(kept or tokens) or folded


def short_counts(run: Run) -> list[Counts]:
    """What each image adds to the sums behind `short_figures`, from the questions that both policies answered."""
    sides: dict[str, dict[str, dict[str, Any]]] = {which: {} for which in SIDES}
    for row in read_rows(run, "short_answers", ["which", "question_id", "image_id", "kind", "text", "correct"]):
        sides[row["which"]][row["question_id"]] = row
    counts: dict[str, Counts] = defaultdict(Counter)
    for question_id, before in sides["before"].items():
        if after := sides["after"].get(question_id):
            sums = counts[before["image_id"]]
            for kind in dict.fromkeys(("", before["kind"])):
                sums[f"{kind} questions"] += 1
                for which, row in (("before", before), ("after", after)):
                    sums[f"{kind} {which}"] += row["correct"]
                    sums[f"{kind} words {which}"] += len(words(row["text"]))
    return list(counts.values())


def short_figures(totals: Counts, kind: str = "") -> Figures:
    """Shares of correct answers, and their change in points, of all questions or of a kind.

    - before, after: correct answers / questions;
    - change: after - before (0.01 is a point);
    - mean_words_before, mean_words_after: words of an answer;
    - questions: those that both policies answered.
    """
    questions = totals[f"{kind} questions"]
    return {
        "before": ratio(totals[f"{kind} before"], questions),
        "after": ratio(totals[f"{kind} after"], questions),
        "change": ratio(totals[f"{kind} after"] - totals[f"{kind} before"], questions),
        "mean_words_before": ratio(totals[f"{kind} words before"], questions),
        "mean_words_after": ratio(totals[f"{kind} words after"], questions),
        "questions": questions,
    }


def short_statistics(counts: Sequence[Counts], seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and intervals of all questions, and under `kinds` of each kind; both answers to a question are resampled
    together, with all questions about the image. Empty without questions.
    """
    if not counts:
        return {}, {}
    totals = total(counts)
    kinds = [name.removesuffix(" questions") for name in totals if name.endswith(" questions") and name[0] != " "]
    by_kind = {kind: partial(short_figures, kind=kind) for kind in ("", *kinds)}
    figures = {kind: figures_of(totals) for kind, figures_of in by_kind.items()}
    spread = {kind: intervals(counts, figures_of, seed) for kind, figures_of in by_kind.items()}
    return {**figures.pop(""), "kinds": figures}, {**spread.pop(""), "kinds": spread}


def short_table(figures: dict[str, Any], spread: dict[str, Any]) -> str:
    """Correct answers before and after, and the change in points, as text for the terminal."""
    lines = [f"{'short answers':24}{'before':>22}{'after':>22}{'change':>28}"]
    rows = {"correct": (figures, spread)}
    rows |= {f"  {kind}": (values, spread["kinds"][kind]) for kind, values in figures["kinds"].items()}
    for label, (values, bounds) in rows.items():
        cells = [format_with_interval(name, values[name], bounds[name]) for name in ("before", "after", "change")]
        lines.append(f"{label:24}{cells[0]:>22}{cells[1]:>22}{cells[2]:>28}")
    words_of = [format_with_interval(name, figures[name], None) for name in ("mean_words_before", "mean_words_after")]
    lines.append(f"{'  words':24}{words_of[0]:>22}{words_of[1]:>22}")
    return "\n".join([*lines, f"{figures['questions']:,} questions; change in points"])
