"""CHAIR and Object HalBench: which objects does a description name that are not in the image?

Sources: Rohrbach et al. 2018, arXiv 1809.02156, github LisaAnne/Hallucination (objects, synonyms, rules for MSCOCO).
Object HalBench asks for detailed descriptions of 300 of its images (RLHF-V, arXiv 2312.00849; its figures: RLAIF-V,
arXiv 2405.17220, github RLHF-V/RLAIF-V).

    FOLDER/synonyms*.txt                           one object per line: its name and its synonyms, comma-separated
    FOLDER/instances_*.json, captions_*.json       COCO's annotations, any number of files of each
    FOLDER/obj_halbench*.jsonl                     one JSON object per line: image_id, question, image (base64)
    FOLDER/images/                                 or benchmark.images; used without obj_halbench*.jsonl: then the
                                                   question about every image is benchmark.instruction

An object is in the image if it is annotated or a reference caption names it. CHAIR counts every mention, Object
HalBench each distinct word once an answer: "man" and "person" are two, "man" and "men" one. It also removes, with a
paid model, objects that an answer names without saying that they are there. This is not done here, so figures are
somewhat higher than published ones.

| figure                       |                                                                                  |
|------------------------------|----------------------------------------------------------------------------------|
| mention_rate                 | false mentions / all mentions (CHAIR_i)                                          |
| object_halbench_mention_rate | the same of the distinct words of each answer (Object HalBench, mention level)   |
| response_rate                | answers with a false mention / answers that mention any object (Object HalBench) |
| chair_s                      | answers with a false mention / all answers (CHAIR_s)                             |
| recall                       | objects found / objects in the image, summed over all answers                    |
| mean_words                   | words per answer: an answer that says less hallucinates less                     |
"""

import base64
import binascii
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from evaluation.benchmarks.objects import Names, plurals
from evaluation.benchmarks.questions import (
    Question,
    field,
    number_of,
    one_file,
    read_json,
    read_records,
    read_text,
    records_in,
)
from evaluation.hallucination import hallucination_figures, mention_counts
from evaluation.statistics import Counts, Figures, ratio
from rlaif.config import BenchmarkSection
from rlaif.errors import InputError

# CHAIR's rules for MSCOCO: a baby or adult animal is not a person, nor is a passenger jet or train
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub")
_WHOLES = {
    **{f"{age} {animal}": animal for age in ("baby", "adult") for animal in _ANIMALS},
    **{f"passenger {vehicle}": vehicle for vehicle in ("jet", "train")},
    "toilet seat": "toilet",
    "bow tie": "tie",
}
_NO_OBJECTS = ("home plate", "train track")
_OWN_WORDS = ("people",)  # plurals that a lemmatizer leaves as they are


class Word(NamedTuple):
    """A word for an object, in the singular, and the object."""

    word: str
    object: str


@dataclass(frozen=True)
class Chair:
    """questions; truth: image_id -> objects in the image; names: finds words for objects in a text."""

    questions: list[Question]
    truth: dict[str, set[str]]
    names: Names[Word]

    def count(self, question: Question, answer: str) -> Counts:
        """See Benchmark."""
        truth = self.truth[question.image_id]
        mentions = find_words(self.names, answer)
        found = truth.intersection(mention.object for mention in mentions)
        counts = mention_counts(answer, [mention.object in truth for mention in mentions], len(found), len(truth))
        distinct = set(mentions)
        counts.update(distinct=len(distinct), false_distinct=sum(item.object not in truth for item in distinct))
        return counts

    def figures(self, totals: Counts) -> Figures:
        """See Benchmark."""
        figures = hallucination_figures(totals)
        answers = figures.pop("responses")
        return {
            "mention_rate": figures.pop("mention_rate"),
            "object_halbench_mention_rate": ratio(totals["false_distinct"], totals["distinct"]),
            **figures,
            "chair_s": ratio(totals["answers_with_false_mentions"], totals["answers"]),
            "answers": answers,
        }


def read_chair(folder: Path, section: BenchmarkSection) -> Chair:
    """Questions, annotations and names. Errors: InputError: a file is missing or not as published."""
    synonyms = read_synonyms(one_file(folder, "synonyms*.txt"))
    names = Names(with_rules(synonyms))
    files, truth = read_instances(folder, synonyms)
    for image_id, caption in _captions(folder):
        if image_id in truth:
            truth[image_id].update(item.object for item in find_words(names, caption))
    pattern = section.questions or "obj_halbench*.jsonl"
    if section.questions is not None or any(folder.glob(pattern)):
        questions = list(_halbench(one_file(folder, pattern), section, truth))
    else:
        questions = [Question(image_id, image_id, section.instruction, name) for image_id, name in files.items()]
    return Chair(questions[: section.limit], truth, names)


def read_synonyms(path: Path) -> dict[str, str]:
    """name or synonym -> object, which is the first name of its line. Errors: InputError: no name in the file."""
    synonyms: dict[str, str] = {}
    for line in read_text(path).splitlines():
        names = [name.strip() for name in line.split(",") if name.strip()]
        synonyms |= {name: names[0] for name in names}
    if not synonyms:
        raise InputError(
            f"{path} has no names; expected one object per line: its name and its synonyms, comma-separated"
        )
    return synonyms


def with_rules(synonyms: dict[str, str]) -> dict[str, Word | None]:
    """The names with their words and objects; `_WHOLES` stand for another word, `_NO_OBJECTS` for none.

    A name that is the plural of another name of its object is one word with it: "children" is the word "child".
    """
    plural_of = {
        plural: name
        for name, item in synonyms.items()
        for plural in plurals(name) - {name, *_OWN_WORDS}
        if synonyms.get(plural) == item
    }
    wholes = {name: Word(part, synonyms[part]) if part in synonyms else None for name, part in _WHOLES.items()}
    listed = {name: Word(plural_of.get(name, name), item) for name, item in synonyms.items()}
    return {**dict.fromkeys(_NO_OBJECTS), **listed, **wholes}


def find_words(names: Names[Word], text: str) -> list[Word]:
    """The words for objects in a text; beside a toilet, a seat is part of it and not a chair."""
    found = names.find(text)
    if any(item.word == "toilet" for item in found):
        return [item for item in found if item.word != "seat"]
    return found


def read_instances(folder: Path, synonyms: dict[str, str]) -> tuple[dict[str, str], dict[str, set[str]]]:
    """File names and annotated objects by image_id. Errors: InputError."""
    files: dict[str, str] = {}
    truth: dict[str, set[str]] = defaultdict(set)
    for path in _several(folder, "instances_*.json"):
        content = read_json(path, dict)
        objects = {}
        for item in records_in(content, "categories", str(path)):
            name = field(item, "name", str, f"{path}, categories")
            if name not in synonyms:
                raise InputError(f"{path}: category {name!r} is missing from the synonyms file; add it there")
            objects[field(item, "id", int, f"{path}, categories")] = synonyms[name]
        for item in records_in(content, "images", str(path)):
            image_id = str(field(item, "id", int, f"{path}, images"))
            files[image_id] = field(item, "file_name", str, f"{path}, images")
            truth[image_id] = set()
        for item in records_in(content, "annotations", str(path)):
            category = field(item, "category_id", int, f"{path}, annotations")
            if category not in objects:
                raise InputError(
                    f"{path}, annotations: category_id {category} is not in categories; get the file again"
                )
            truth[str(field(item, "image_id", int, f"{path}, annotations"))].add(objects[category])
    return files, dict(truth)


def _captions(folder: Path) -> Iterator[tuple[str, str]]:
    for path in _several(folder, "captions_*.json"):
        for item in records_in(read_json(path, dict), "annotations", str(path)):
            where = f"{path}, annotations"
            yield str(field(item, "image_id", int, where)), field(item, "caption", str, where)


def _halbench(path: Path, section: BenchmarkSection, truth: dict[str, set[str]]) -> Iterator[Question]:
    for number, record in enumerate(read_records(path)[: section.limit], start=1):
        where = f"{path}, record {number}"
        image_id = str(number_of(record, "image_id", where))
        if image_id not in truth:
            raise InputError(f"{where}: image_id {image_id} is missing from instances_*.json; add the file that has it")
        try:
            image = base64.b64decode(field(record, "image", str, where), validate=True)
        except binascii.Error as error:
            raise InputError(f"{where}: field 'image' is not base64 ({error}); get the file again") from error
        yield Question(str(number), image_id, field(record, "question", str, where), image)


def _several(folder: Path, pattern: str) -> list[Path]:
    if not (files := sorted(folder.glob(pattern))):
        raise InputError(f"{folder} has no file {pattern}; set benchmark.path to a folder with COCO's annotations")
    return files
