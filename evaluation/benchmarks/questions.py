"""Shared by the benchmarks: questions, and strict reading of published files with one clear error for each defect.

Files name an image by its path below a folder. A path that leads out of that folder, by `..` or a symbolic link, is
dropped like one that is missing.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from evaluation.statistics import Counts, Figures
from rlaif.config import BenchmarkSection
from rlaif.errors import InputError, OutsideFolderError
from rlaif.storage.files import file_inside, make_id

Value = TypeVar("Value")
Drop = Callable[[str, str, str], None]  # (question_id, reason, detail)


@dataclass(frozen=True)
class Question:
    """One question about an image. Confidence intervals resample questions with the same image_id together.

    image: the content of the file, or its name below the folder of images.
    """

    question_id: str
    image_id: str
    text: str
    image: bytes | str


class Benchmark(Protocol):
    """A benchmark whose answers are counted by rules, without a model."""

    @property
    def questions(self) -> Sequence[Question]: ...

    def count(self, question: Question, answer: str) -> Counts:
        """What one answer adds to the sums."""

    def figures(self, totals: Counts) -> Figures:
        """The figures of these sums."""


def images_folder(folder: Path, section: BenchmarkSection) -> Path:
    """The folder with a benchmark's images."""
    return Path(section.images) if section.images else folder / "images"


def one_file(folder: Path, *patterns: str) -> Path:
    """The only match of the first pattern that has any. Errors: InputError: no match, or several."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; set benchmark.path to the folder with the benchmark's files")
    for pattern in patterns:
        files = sorted(folder.glob(pattern))
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise InputError(
                f"{folder} has several files {pattern}: {names}; keep one, or name it in benchmark.questions"
            )
        if files:
            return files[0]
    raise InputError(f"{folder} has no file {' or '.join(patterns)}; set benchmark.path to the folder with that file")


def read_text(path: Path) -> str:
    """A file as text. Errors: InputError: missing, or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"cannot read {path} ({error.strerror}); set benchmark.path to a folder with that file"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}); get the file again") from error


def read_json(path: Path, kind: type[Value]) -> Value:
    """A JSON file that holds a list or an object. Errors: InputError."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON ({error}); get the file again") from error
    if not isinstance(content, kind):
        raise InputError(f"{path} holds {_kind(type(content))}, expected {_kind(kind)}; get the file again")
    return content


def read_records(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON list or of a file with one object per line. Errors: InputError: empty, or anything else."""
    text = read_text(path)
    if text.lstrip().startswith("["):
        records = read_json(path, list)
    else:
        records = []
        for number, line in enumerate(text.split("\n"), start=1):  # not at U+2028, which JSON text may hold
            if not line.strip():
                continue
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, line {number} is not valid JSON ({error}); get the file again") from error
    if not records:
        raise InputError(f"{path} is empty; get the file again")
    return _objects(records, str(path))


def field(record: dict[str, Any], name: str, kind: type[Value], where: str) -> Value:
    """A field of a record. Errors: InputError if it is missing or has another type."""
    if name not in record:
        fields = ", ".join(map(str, record)) or "none"
        raise InputError(f"{where} has no field {name!r}, only: {fields}; get the file again")
    value = record[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(
            f"{where}: field {name!r} holds {_kind(type(value))}, expected {_kind(kind)}; get the file again"
        )
    return value


def number_of(record: dict[str, Any], name: str, where: str) -> int:
    """A field that holds an integer, or its digits as text ("285"). Errors: InputError."""
    if isinstance(value := record.get(name), str) and value.isdecimal():
        return int(value)
    return field(record, name, int, where)


def records_in(content: dict[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    """A field that holds a list of objects. Errors: InputError."""
    return _objects(field(content, name, list, where), f"{where}, {name}")


def texts(values: Any, where: str) -> list[str]:
    """The value as a list of texts. Errors: InputError: anything else."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputError(f"{where} is {json.dumps(values)[:80]}, expected a list of texts; get the file again")
    return values


def digest(questions: Sequence[Question], images: Path) -> str:
    """16 hex digits over the questions: their ids, texts, and names and sizes of their images."""

    def content(image: bytes | str) -> str:
        if isinstance(image, bytes):
            return make_id(image.hex())
        path = images / image
        return f"{image} {path.stat().st_size if path.is_file() else 'missing'}"

    return make_id(*(f"{item.question_id}\x1f{item.text}\x1f{content(item.image)}" for item in questions))


def usable_image(question: Question, images: Path, drop: Drop) -> bytes | None:
    """The bytes of a question's image if it can be opened; None after a drop."""
    from model.images import open_image

    data = question.image
    if isinstance(data, str):
        try:
            data = file_inside(data, [images]).read_bytes()
        except OutsideFolderError as error:
            drop(question.question_id, "image_outside_folder", str(error))
            return None
        except OSError as error:
            drop(question.question_id, "missing_image", f"{question.image!r} in {images}: {error.strerror}")
            return None
    try:
        open_image(data)
    except ValueError as error:
        drop(question.question_id, "unusable_image", str(error))
        return None
    return data


def _objects(records: list[Any], where: str) -> list[dict[str, Any]]:
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise InputError(
                f"{where}, record {number} is {_kind(type(record))}, expected an object with fields; get the file again"
            )
    return records


def _kind(kind: type) -> str:
    names = {dict: "an object", list: "a list", str: "text", int: "a whole number", float: "a number"}
    return names.get(kind, "true or false" if kind is bool else "nothing")
