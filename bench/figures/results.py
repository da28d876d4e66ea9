"""Result files: docs/results/<name>.json has the figures of one measurement and how they were measured."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlaif.errors import InputError
from rlaif.storage.files import atomic_write, read_json

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "docs" / "results"

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class ResultFile:
    """Figures with their provenance. commit: of the code that was measured; machine: in words; note: may be empty."""

    title: str
    command: str
    date: str
    commit: str
    machine: str
    note: str
    figures: Figures


def read_result(name: str, folder: Path = RESULTS) -> ResultFile:
    """Errors: InputError: the file is missing or is not a result file."""
    file = folder / f"{name}.json"
    if not file.is_file():
        names = ", ".join(result_names(folder)) or "none"
        raise InputError(f"{file} does not exist; result files there: {names}; `python -m bench.record` writes them")
    try:
        return ResultFile(**read_json(file))
    except TypeError as error:
        raise InputError(
            f"{file} is not a result file ({error}); write it again with `python -m bench.record`"
        ) from error


def write_result(result: ResultFile, file: Path) -> None:
    """Write a result file, replacing an earlier one as a whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def result_names(folder: Path = RESULTS) -> list[str]:
    """Names of the result files of a folder."""
    return sorted(file.stem for file in folder.glob("*.json"))
