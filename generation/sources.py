"""Where images and instructions come from: each source is a function that yields `Picture` rows.

| data.source | reads                                                                              |
|-------------|------------------------------------------------------------------------------------|
| scenes      | the embedded world, the only source with predefined splits and a reference         |
| folder      | every image below a folder, with every instruction of a text file                  |
| table       | a JSON, JSON lines, CSV or parquet file, or all below a folder (generation.tables) |
| parquet     | the same for parquet only                                                          |
| datasets    | a data set that `datasets` can load, from a folder or from the hub                 |

CONTRIBUTING.md says how to add a source. generation.prompts checks the rows of all sources alike.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from generation.tables import Columns, table_pictures
from rlaif.config import DataSection
from rlaif.errors import InputError
from rlaif.inference.revision import hub_commit
from rlaif.records.data_sets import open_data_set, should_stream
from rlaif.records.files import open_files
from rlaif.records.record import RecordTable
from rlaif.sources.folder import files_below, summary
from rlaif.sources.picture import Picture, redacted
from rlaif.storage.files import files_digest, make_id

DEFAULT_INSTRUCTIONS = Path(__file__).with_name("instructions.txt")


def read_pictures(data: DataSection, seed: int, round: int = 1) -> Iterator[Picture]:
    """All pictures of the configured source, always in the same order; of scenes, those of the round.

    Errors: InputError for a source that is missing or empty, or lacks a column of the right type.
    """
    if data.source == "scenes":
        return _read_scenes(data, seed, round)
    assert data.path is not None, "the configuration was checked"
    if data.source == "import":
        raise InputError("data.source is 'import': rows with answers are read by `make import`; set another source")
    if data.source == "folder":
        return _read_folder(Path(data.path), read_instructions(data.instructions))
    columns = Columns(data.image_column, data.question_column)
    image_folder = Path(data.image_folder) if data.image_folder else None
    if data.source == "parquet":
        return read_parquet(Path(data.path), columns, image_folder)
    if data.source == "table":
        return table_pictures(open_files(Path(data.path), "data.path"), columns, image_folder)
    return table_pictures([_open_data_set(data)], columns, image_folder)


def _read_scenes(data: DataSection, seed: int, round: int) -> Iterator[Picture]:
    from scenes.source import scene_rows

    counts = {"train": data.train_prompts, "validation": data.validation_prompts, "test": data.test_prompts}
    for split, count in counts.items():
        count = count if data.limit is None else min(count, data.limit)
        first = data.train_prompts * ((round - 1) % data.train_parts) if split == "train" else 0
        for index, scene in enumerate(scene_rows(split, count, seed, first), first):
            name = f"{split}-{index:06d}.png"
            yield Picture(name, scene.png, [scene.instruction], name, split, json.dumps(scene.reference))


def _read_folder(folder: Path, instructions: list[str]) -> Iterator[Picture]:
    """Every image below a folder with every instruction; other files are skipped, and counted in one printed line."""
    if not folder.is_dir():
        raise InputError(
            f"{folder} is {'a file' if folder.exists() else 'missing'}, expected a folder of images; correct data.path"
        )
    names, others = files_below(folder)
    if not names:
        found = f"{summary(others)}, no images" if others else "no images"
        raise InputError(f"{found} in {folder}; expected JPEG, PNG, HEIC or other image files; correct data.path")
    if others:
        print(f"  skipped  {summary(others)} in {folder}")
    for name in names:
        yield Picture(
            name, f"./{name}", instructions, redacted(name), folders=[folder]
        )  # "./" keeps a name from being read as a URL


def read_instructions(path: str | None) -> list[str]:
    """One instruction per line, without blank lines; None: generation/instructions.txt. Errors: InputError."""
    file = Path(path) if path else DEFAULT_INSTRUCTIONS
    if not file.is_file():
        raise InputError(f"{file} is missing; set data.instructions to a text file with one instruction per line")
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file} is not UTF-8 text ({error.reason}); data.instructions must name a text file"
        ) from error
    if not any(lines):
        raise InputError(f"{file} has no instructions; write one per line")
    return [line for line in lines if line]


def read_parquet(path: Path, columns: Columns, image_folder: Path | None = None) -> Iterator[Picture]:
    """Rows of a parquet file, or of all below a folder. Errors: InputError."""
    return table_pictures(open_files(path, f"{columns.section}.path", "parquet"), columns, image_folder)


def _open_data_set(data: DataSection) -> RecordTable:
    assert data.path is not None
    streaming = should_stream(data.path, data.split, data.streaming, data.limit)
    return open_data_set(
        data.path, split=data.split, config_name=data.config_name, revision=data.revision, streaming=streaming
    )


def pin_data(data: DataSection) -> DataSection:
    """The section with its hub data set pinned to a commit; other sources as they are. Errors: InputError."""
    if data.source != "datasets" or Path(data.path or "").exists():
        return data
    assert data.path is not None
    try:
        return data.model_copy(update={"revision": hub_commit(data.path, data.revision, "dataset", "README.md")})
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot load data set {data.path}: neither a local folder nor a data set on the hub "
            f"({type(error).__name__}); correct data.path, or set data.revision to a commit that is cached"
        ) from error


def source_files(data: DataSection) -> dict[str, str]:
    """The identity of local input: digests over its instructions, and over the names and sizes of its files.

    It distinguishes runs on different files. Images are not read.
    """
    identity = {}
    if data.source == "folder":
        identity["instructions_digest"] = make_id(*read_instructions(data.instructions))
    if data.path is not None and Path(data.path).exists():
        names = files_below(Path(data.path))[0] if data.source == "folder" else None  # a new Thumbs.db changes nothing
        identity["files_digest"] = files_digest(Path(data.path), names)
    return identity
