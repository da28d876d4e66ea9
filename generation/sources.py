"""Where images and instructions come from: each source is a function that yields `Picture` rows.

| data.source | reads                                                                          |
|-------------|--------------------------------------------------------------------------------|
| scenes      | the embedded world, the only source with predefined splits and a reference     |
| folder      | every image below a folder, with every instruction of a text file              |
| parquet     | a parquet file, or all below a folder, with an image and a question column     |
| datasets    | a data set that `datasets` can load, from a folder or from the hub             |

CONTRIBUTING.md says how to add a source. generation.prompts checks the rows of all sources alike.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaif.config import DataSection
from rlaif.errors import InputError
from rlaif.inference.revision import hub_commit
from rlaif.sources.folder import files_below, summary
from rlaif.sources.picture import Picture, redacted
from rlaif.storage.files import files_digest, make_id, parquet_files

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULT_INSTRUCTIONS = Path(__file__).with_name("instructions.txt")
ROWS_PER_BATCH = 32  # rows of a parquet file in memory; photographs are large


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
    if data.source == "parquet":
        return read_parquet(Path(data.path), data.image_column, data.question_column)
    return _read_dataset(data)


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


def read_parquet(
    path: Path, image_column: str, text_column: str, section: str = "data", text: str = "question"
) -> Iterator[Picture]:
    """Rows of a parquet file, or of all below a folder. Image paths are relative to the folder of their file.

    section, text: the setting is called `{section}.{text}_column`, for messages.
    Errors: InputError for a missing path, file or column, or one of another type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {f"{section}.image_column": image_column, f"{section}.{text}_column": text_column}
    for name, file in parquet_files(path, f"{section}.path").items():
        try:
            table = pq.ParquetFile(file)
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{file} is not a parquet file ({error}); correct {section}.path, or write it again"
            ) from error
        folders = [file.parent, path] if path.is_dir() else [file.parent]
        with table:
            _check_columns(str(file), table.schema_arrow, columns)
            batches = table.iter_batches(ROWS_PER_BATCH, columns=[image_column, text_column])
            yield from _pictures(name, batches, image_column, text_column, folders)


def _read_dataset(data: DataSection) -> Iterator[Picture]:
    """Rows of a data set that was saved by save_to_disk, or that load_dataset can load."""
    from datasets import Dataset, DatasetDict, Image, config, load_dataset, load_from_disk
    from huggingface_hub.constants import HF_HUB_CACHE

    assert data.path is not None
    where = f"data set {data.path}"
    folders = [Path(data.path)]
    try:
        if (Path(data.path) / "dataset_info.json").is_file() or (Path(data.path) / "dataset_dict.json").is_file():
            loaded = load_from_disk(data.path)
        else:
            loaded = load_dataset(data.path, revision=data.revision)
            folders += [Path(config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]  # where downloads are stored
    except (OSError, ValueError) as error:  # the errors of `datasets` derive from these
        raise InputError(f"cannot load {where}: {' '.join(str(error).split())}; correct data.path") from error
    if isinstance(loaded, DatasetDict):
        if data.split not in loaded:
            known = ", ".join(map(str, loaded))
            raise InputError(f"{where} has no split {data.split!r}; it has: {known}; set data.split")
        loaded = loaded[data.split]
    assert isinstance(loaded, Dataset)
    if isinstance(loaded.features.get(data.image_column), Image):
        loaded = loaded.cast_column(data.image_column, Image(decode=False))  # encoded bytes, unchanged
    columns = {"data.image_column": data.image_column, "data.question_column": data.question_column}
    _check_columns(where, loaded.features.arrow_schema, columns)
    batches = loaded.select_columns([data.image_column, data.question_column]).with_format("arrow").iter(ROWS_PER_BATCH)
    yield from _pictures(data.split, batches, data.image_column, data.question_column, folders)


def _check_columns(where: str, schema: "pa.Schema", columns: dict[str, str]) -> None:
    """columns: setting -> column name, of the image column and then of the text column. Errors: InputError."""
    import pyarrow as pa

    for setting, name in columns.items():
        if name not in schema.names:
            raise InputError(f"{where} has no column {name!r}; it has: {', '.join(schema.names)}; set {setting}")
    image_column, text_column = columns.values()
    kind = schema.field(image_column).type
    is_struct = pa.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}
    if not (is_struct or _is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(
            f"{where}: column {image_column!r} has type {kind}; expected bytes, struct<bytes, path>, or path"
        )
    if not _is_text(schema.field(text_column).type):
        kind = schema.field(text_column).type
        raise InputError(f"{where}: column {text_column!r} has type {kind}; expected text; set {list(columns)[1]}")


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _pictures(
    name: str, batches: Iterable[Any], image_column: str, text_column: str, folders: list[Path]
) -> Iterator[Picture]:
    """Rows of Arrow batches. Texts are read as bytes: a single invalid UTF-8 text would fail its whole batch."""
    index = 0
    for batch in batches:
        kind = batch.schema.field(image_column).type
        images, texts = (_as_binary(batch[column]).to_pylist() for column in (image_column, text_column))
        for cell, text in zip(images, texts, strict=True):
            if isinstance(cell, dict):
                content, path = cell["bytes"], cell["path"]
            else:
                content, path = (None, cell) if _is_text(kind) else (cell, None)
            path = path and os.fsdecode(path)  # file names need not be valid UTF-8 either
            where = f"{name}:{index}"
            image = path if content is None else content
            yield Picture(where, image, [_text(text)], redacted(path or where), folders=folders)
            index += 1


def _as_binary(column: Any) -> Any:
    """The column with its texts, nested ones too, cast to bytes."""
    import pyarrow as pa

    def binary_type(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_struct(kind):
            return pa.struct([(field.name, binary_type(field.type)) for field in kind])
        return pa.large_binary() if _is_text(kind) else kind

    return column.cast(binary_type(column.type))


def _text(content: bytes | None) -> str | bytes | None:
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError:
        return content


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
