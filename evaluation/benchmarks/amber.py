"""AMBER: objects named in a description that are not there, and yes/no questions on existence, attributes, relations.

Source: Wang et al. 2023, arXiv 2311.07397; files and counting as in github junyangwang0410/AMBER (inference.py).

    FOLDER/data/query/query_all.json        a list of: id, image (a file name), query; benchmark.questions may name
                                            another file of that folder (query_generative.json, ...)
    FOLDER/data/annotations.json            a list of: id, type, truth ("yes", "no", or the objects of the image), and
                                            for descriptions hallu (objects that a model may hallucinate)
    FOLDER/data/relation.json               word -> words that may stand for it
    FOLDER/data/safe_words.txt              words that never count as false
    FOLDER/images/                          or benchmark.images

metrics.txt of the reference code holds initial values of its sums and is not read. As there, sums run over all answers;
a word counts for the first object that it may stand for, looked up in relation.json before its own name; Cog divides by
the objects in hallu. Hence, as there, a word in both truth and hallu is there, and can never count for cog; a word that
is twice in truth covers one of the two. Unlike there, near-synonyms are not matched by word vectors (words that
relation.json does not relate remain different, so chair and hal are somewhat higher), words in capitals count, and no
epsilon is added to denominators.

| figure                         |                                                                         |
|--------------------------------|-------------------------------------------------------------------------|
| chair                          | words for objects that are not there / words for objects                |
| cover                          | objects named / objects of the image                                    |
| hal                            | descriptions with a word for an object that is not there / descriptions |
| cog                            | hallu objects named / hallu objects                                     |
| accuracy, precision, recall, f1| of the yes/no questions; the positive class is the answer no            |
| exact_accuracy, exact_f1       | the same where the reference reads answers: exactly "Yes" or "No"       |
| unread_answers                 | answers to yes/no questions that say neither yes nor no                 |
| existence_..., attribute_...   | the same for one kind of question                                       |
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.benchmarks.objects import Names
from evaluation.benchmarks.questions import (
    Question,
    field,
    number_of,
    one_file,
    read_json,
    read_records,
    read_text,
    texts,
)
from evaluation.benchmarks.yes_no import amber_rule, read_answer, yes_no_counts, yes_no_figures
from evaluation.statistics import Counts, Figures, ratio
from rlaif.config import BenchmarkSection
from rlaif.errors import InputError
from rlaif.text import words

# type of a question -> the kinds that it counts for, beside "all"; published relation questions have two types
KINDS = {
    "discriminative-hallucination": ("existence",),
    "discriminative-attribute-state": ("attribute", "state"),
    "discriminative-attribute-number": ("attribute", "number"),
    "discriminative-attribute-action": ("attribute", "action"),
    "discriminative-relation": ("relation",),
    "relation": ("relation",),
}
SHOWN = ("all", "existence", "attribute", "state", "number", "action", "relation")


@dataclass(frozen=True)
class Scene:
    """The annotation of a description: objects of the image, and objects that a model may hallucinate there."""

    truth: Sequence[str]
    hallu: Sequence[str]


@dataclass(frozen=True)
class YesNo:
    """The annotation of a yes/no question."""

    kinds: Sequence[str]
    truth: bool


@dataclass(frozen=True)
class Amber:
    """questions; annotations: by question_id; relations: word -> words that may stand for it; safe: never false."""

    questions: list[Question]
    annotations: dict[str, Scene | YesNo]
    relations: dict[str, list[str]]
    safe: frozenset[str]
    names: Names[str]

    def count(self, question: Question, answer: str) -> Counts:
        """See Benchmark."""
        annotation = self.annotations[question.question_id]
        if isinstance(annotation, Scene):
            return self._describe(annotation, answer)
        counts: Counts = Counter()
        for kind in ("all", *annotation.kinds):
            counts.update(yes_no_counts(kind, annotation.truth, read_answer(answer), positive=False))
            counts.update(yes_no_counts(f"{kind} exact", annotation.truth, amber_rule(answer), positive=False))
        return counts

    def _describe(self, scene: Scene, answer: str) -> Counts:
        named = self.names.find(answer)
        covered: set[int] = set()
        hallucinated: set[int] = set()
        false = 0
        for word in named:
            if word in self.safe:
                continue
            if (index := self._object_index(word, scene.truth)) is not None:
                covered.add(index)
                continue
            if (index := self._object_index(word, scene.hallu)) is not None:
                hallucinated.add(index)
            false += 1
        return Counter(
            descriptions=1,
            words=len(words(answer)),
            named=len(named),
            false=false,
            descriptions_with_false=int(false > 0),
            objects=len(scene.truth),
            covered=len(covered),
            hallu=len(scene.hallu),
            hallucinated=len(hallucinated),
        )

    def _object_index(self, word: str, objects: Sequence[str]) -> int | None:
        """The index of the object that a word stands for."""
        for index, name in enumerate(objects):
            if word in self.relations[name]:
                return index
        return objects.index(word) if word in objects else None

    def figures(self, totals: Counts) -> Figures:
        """See Benchmark. Tasks and kinds without questions have no figures."""
        figures: Figures = {}
        annotations = self.annotations.values()
        if any(isinstance(annotation, Scene) for annotation in annotations):
            figures |= {
                "chair": ratio(totals["false"], totals["named"]),
                "cover": ratio(totals["covered"], totals["objects"]),
                "hal": ratio(totals["descriptions_with_false"], totals["descriptions"]),
                "cog": ratio(totals["hallucinated"], totals["hallu"]),
                "mean_words": ratio(totals["words"], totals["descriptions"]),
                "descriptions": totals["descriptions"],
            }
        questions = [annotation for annotation in annotations if isinstance(annotation, YesNo)]
        kinds = {kind for question in questions for kind in ("all", *question.kinds)}
        for kind in (kind for kind in SHOWN if kind in kinds):
            exact = yes_no_figures(totals, f"{kind} exact")
            of_kind: Figures = {
                **yes_no_figures(totals, kind),
                **{f"exact_{name}": exact[name] for name in ("accuracy", "f1")},
                "questions": totals[f"{kind} questions"],
            }
            if kind == "all":
                of_kind["unread_answers"] = totals["all unread"]
            figures |= {name if kind == "all" else f"{kind}_{name}": value for name, value in of_kind.items()}
        return figures


def read_amber(folder: Path, section: BenchmarkSection) -> Amber:
    """Questions and annotations. Errors: InputError: a file is missing or not as published."""
    data = folder / "data"
    relations = _relations(one_file(data, "relation.json"))
    safe = frozenset(
        word for line in read_text(one_file(data, "safe_words.txt")).splitlines() if (word := line.strip())
    )
    path = one_file(data, "annotations.json")
    known = {number_of(record, "id", f"{path}, record"): record for record in read_records(path)}
    query = one_file(data / "query", section.questions or "query_all.json")
    questions: list[Question] = []
    annotations: dict[str, Scene | YesNo] = {}
    for number, record in enumerate(read_records(query)[: section.limit], start=1):
        where = f"{query}, record {number}"
        key, image = number_of(record, "id", where), field(record, "image", str, where)
        if key not in known:
            raise InputError(f"{where}: id {key} is not in {path}; get both files again")
        annotations[str(key)] = _annotation(known[key], relations, f"{path}, id {key}")
        questions.append(Question(str(key), image, field(record, "query", str, where), image))
    vocabulary = [*relations, *(word for others in relations.values() for word in others)]
    return Amber(questions, annotations, relations, safe, Names({word: word for word in vocabulary}))


def _relations(path: Path) -> dict[str, list[str]]:
    return {word: texts(others, f"{path}: {word!r}") for word, others in read_json(path, dict).items()}


def _annotation(record: dict[str, Any], relations: dict[str, list[str]], where: str) -> Scene | YesNo:
    kind = field(record, "type", str, where)
    if kind == "generative":
        objects, hallu = (texts(field(record, name, list, where), f"{where}: {name}") for name in ("truth", "hallu"))
        if unknown := [word for word in (*objects, *hallu) if word not in relations]:
            raise InputError(f"{where}: {unknown[0]!r} is not in relation.json; get both files again")
        return Scene(objects, hallu)
    if kind not in KINDS:
        raise InputError(f"{where}: type {kind!r}; allowed: generative, {', '.join(KINDS)}; get the file again")
    truth = field(record, "truth", str, where)
    if truth not in ("yes", "no"):
        raise InputError(f"{where}: truth {truth!r}; allowed: yes, no; get the file again")
    return YesNo(KINDS[kind], truth == "yes")
