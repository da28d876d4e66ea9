"""The tables of DATA=: a file, a folder, a data set on the hub, or the annotation files that a meta.json names.

InternVL's data (MMPR) is published as

    meta.json    {"name": {"root": "MMPR/images/m3cot", "annotation": "MMPR/annotations/m3cot.jsonl"}, ...}

with paths that start at the folder of meta.json or at one above it.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rlaif.config import DataSection
from rlaif.errors import ConfigError, InputError
from rlaif.interchange.importer.origin import Origin, hub_origin, local_origin
from rlaif.records.data_sets import should_stream
from rlaif.records.open import HUB_ID, open_records
from rlaif.records.record import RecordTable
from rlaif.storage.files import read_json


def find_origin(data: DataSection) -> Origin:
    """The origin of the configured data. Errors: ConfigError for a source of prompts, InputError for missing data."""
    if data.source != "import" or data.path is None:
        raise ConfigError(f"data.source is {data.source!r}; expected import; run `make import DATA=FILE_OR_HUB_ID`")
    path = Path(data.path)
    if path.exists():
        return local_origin(path)
    if not HUB_ID.fullmatch(data.path):
        raise InputError(
            f"{path} is missing; give an existing file or folder, or the id of a data set: DATA=owner/name"
        )
    return hub_origin(data.path, data.revision)


def open_tables(data: DataSection, origin: Origin) -> Iterator[RecordTable]:
    """The tables of the configured data, in order. Errors: InputError."""
    assert data.path is not None
    path = Path(data.path)
    if meta := find_meta(path):
        yield from _open_annotations(meta, Path(data.image_folder or meta.parent))
    else:
        streaming = should_stream(data.path, data.split, data.streaming, data.limit)
        for table in open_records(
            data.path,
            split=data.split,
            config_name=data.config_name,
            revision=origin.revision,
            streaming=streaming,
        ):
            yield replace(table, folders=[Path(data.image_folder)]) if data.image_folder else table


def find_meta(path: Path) -> Path | None:
    """The meta.json at a path or in that folder; None if there is none, or it is of another kind."""
    meta = path / "meta.json" if path.is_dir() else path
    if meta.name != "meta.json" or not meta.is_file():
        return None
    content = read_json(meta)
    parts = list(content.values()) if isinstance(content, dict) else []
    return meta if parts and all(isinstance(part, dict) and "annotation" in part for part in parts) else None


def _open_annotations(meta: Path, images: Path) -> Iterator[RecordTable]:
    """images: the folder of the roots. Errors: InputError for an annotation file that is missing or lies elsewhere."""
    folder = meta.parent
    for name, part in read_json(meta).items():
        annotation = _below(folder, str(part["annotation"]))
        if annotation is None or not annotation.is_file():
            raise InputError(
                f"{meta}: {name} names the file {part['annotation']}, which is not there; unpack the annotations "
                f"beside {meta.name}"
            )
        root = _below(images, str(part.get("root") or "")) or images
        for table in open_records(str(annotation)):
            yield replace(table, folders=[root, images])


def _below(folder: Path, name: str) -> Path | None:
    """The existing path below a folder that a name leads to, with or without its first components."""
    parts = Path(name).parts
    for start in range(len(parts) + 1):
        path = folder.joinpath(*parts[start:]).resolve()
        if path.exists() and path.is_relative_to(folder.resolve()):
            return path if parts[start:] or not parts else None
    return None
