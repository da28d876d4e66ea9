"""Sources of images and instructions, and the checks that each prompt passes before it becomes a row of `prompts`.

Columns written: prompt_id, image (bytes as they came, path), image_sha256, instruction, source, split, reference.
`reference` is known for the embedded scenes alone; the images of other sources are divided into splits by their hash,
`data.validation_share` and `data.test_share`. With `data.train_parts` each round has training images of its own.
"""

import hashlib
import json
import mimetypes
import os
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generation.pictures import Drop, Picture, usable_images
from generation.unusable import Unusable, redacted
from rlaif.config import DataSection
from rlaif.errors import InputError
from rlaif.inference.revision import hub_commit
from rlaif.storage.files import make_id, parquet_files

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULT_INSTRUCTIONS = Path(__file__).with_name("instructions.txt")
ROWS_AT_ONCE = 32  # rows of a parquet file in memory; photographs are large


def read_pictures(data: DataSection, seed: int, round: int = 1) -> Iterator[Picture]:
    """All pictures of the configured source, always in the same order; of scenes those of the round.

    Errors: InputError for a source that is missing or empty, lacks a column, or has none of a kind that can be read.
    """
    if data.source == "scenes":
        return _read_scenes(data, seed, round)
    assert data.path is not None, "the configuration was checked"
    if data.source == "folder":
        return _read_folder(Path(data.path), read_instructions(data.instructions))
    if data.source == "parquet":
        return read_parquet(Path(data.path), data.image_column, data.question_column)
    return _read_dataset(data)


def build_prompts(
    pictures: Iterable[Picture], data: DataSection, done: Container[str], drop: Drop, round: int = 1
) -> Iterator[dict[str, Any]]:
    """Rows of `prompts`, at most `data.limit`; those in `done` were written by an earlier try and are left out. An
    instruction is asked as it is: nothing in it can act as more than text (see rlaif.inference.engine).

    Every image is opened once. What cannot be used goes to `drop` with its reason; nothing stops.
    """
    seen: set[str] = set()
    used: Counter[str | None] = Counter()
    for picture, image in usable_images(pictures, data.image_hosts):
        if used[picture.split] == data.limit:
            break  # scenes, the only source that names splits, keep to the limit themselves
        if isinstance(image, Unusable):
            drop(picture.name, image.reason, str(image))
            continue
        digest = hashlib.sha256(image).hexdigest()
        split = picture.split or split_of(digest, data)
        if picture.split is None and split == "train" and not in_part(digest, data.train_parts, round):
            continue
        for instruction in picture.instructions:
            if used[picture.split] == data.limit:
                break
            if isinstance(instruction, bytes):
                drop(picture.name, "broken_text", f"the instruction is no UTF-8: {instruction[:80]!r}")
                continue
            if instruction is None or not instruction.strip():
                drop(picture.name, "missing_instruction", "the instruction is empty")
                continue
            if len(instruction) > data.max_instruction_chars:
                drop(picture.name, "instruction_too_long", f"{len(instruction):,} characters: {instruction[:80]}")
                continue
            prompt_id = make_id(digest, instruction)
            if prompt_id in seen:
                drop(prompt_id, "duplicate_prompt", f"{picture.name}: the same image and instruction came before")
                continue
            seen.add(prompt_id)
            used[picture.split] += 1
            if prompt_id not in done:
                yield {
                    "prompt_id": prompt_id,
                    "image": {"bytes": image, "path": picture.path},
                    "image_sha256": digest,
                    "instruction": instruction,
                    "source": data.source,
                    "split": split,
                    "reference": picture.reference,
                }


def split_of(image_sha256: str, data: DataSection) -> str:
    """The split of an image, drawn by its hash: all its questions are in the same one, whatever stands beside it."""
    place = int(image_sha256[:8], 16) / 2**32
    if place < data.test_share:
        return "test"
    return "validation" if place < data.test_share + data.validation_share else "train"


def in_part(image_sha256: str, parts: int, round: int) -> bool:
    """Whether a training image is one of the round's, drawn by digits of its hash that do not decide its split."""
    return (int(image_sha256[8:16], 16) - (round - 1)) % parts == 0


def read_instructions(path: str | None) -> list[str]:
    """One instruction a line, blank lines left out; None: those of generation/instructions.txt. Errors: InputError."""
    file = Path(path) if path else DEFAULT_INSTRUCTIONS
    if not file.is_file():
        raise InputError(f"no instructions file {file}; data.instructions names a text file, one instruction a line")
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text ({error.reason}); data.instructions names a text file") from error
    if not any(lines):
        raise InputError(f"no instructions in {file}; write one a line")
    return [line for line in lines if line]


def source_files(data: DataSection) -> dict[str, str]:
    """What identifies local input: a digest over the names and sizes of its files, and one over its instructions.

    A run that was made from other files is then not mistaken for this one. Contents of images are not read here.
    """
    identity = {}
    if data.source == "folder":
        identity["instructions_digest"] = make_id(*read_instructions(data.instructions))
    if data.path is not None and Path(data.path).exists():
        identity["files_digest"] = files_digest(Path(data.path))
    return identity


def files_digest(root: Path) -> str:
    """16 hex digits over the names and sizes of a file, or of all files below a folder."""
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    return make_id(*(f"{path.relative_to(root)} {path.stat().st_size}" for path in files))


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
    """Every image below a folder with every instruction; hidden files and those of other kinds are left out."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}{' (it is a file)' if folder.exists() else ''}; data.path names a folder")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if _may_be_image(name)]
    if not names:
        raise InputError(f"no images in {folder}; data.path names a folder with jpeg, png, webp or other image files")
    for name in names:
        yield Picture(name, f"./{name}", instructions, redacted(name), folders=[folder])  # "./": a name is no URL


def _may_be_image(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    kind = mimetypes.guess_type(name)[0]
    return not hidden and (kind is None or kind.startswith("image/"))


def read_parquet(
    path: Path, image_column: str, text_column: str, section: str = "data", text: str = "question"
) -> Iterator[Picture]:
    """Rows of one parquet file or of all below a folder; image paths in them are relative to the file's folder, and
    stay inside the folder given.

    section, text: where the configuration names the path and the columns, for errors.
    Errors: InputError for a path, a file or a column that is not there or of another kind.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {f"{section}.image_column": image_column, f"{section}.{text}_column": text_column}
    for name, file in parquet_files(path, f"{section}.path").items():
        try:
            table = pq.ParquetFile(file)
        except pa.ArrowInvalid as error:
            raise InputError(f"{file} is not a parquet file ({error})") from error
        folders = [file.parent, path] if path.is_dir() else [file.parent]
        with table:
            _check_columns(str(file), table.schema_arrow, columns)
            batches = table.iter_batches(ROWS_AT_ONCE, columns=[image_column, text_column])
            yield from _pictures(name, batches, image_column, text_column, folders)


def pin_data(data: DataSection) -> DataSection:
    """The section with the commit of a data set on the hub, so that no later one is read; any other as it is.

    Errors: InputError.
    """
    if data.source != "datasets" or Path(data.path or "").exists():
        return data
    assert data.path is not None
    try:
        return data.model_copy(update={"revision": hub_commit(data.path, data.revision, "dataset", "README.md")})
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot load data set {data.path}: it is no folder here and was not found on the hub "
            f"({type(error).__name__}); correct data.path, or set data.revision to a commit that was loaded before"
        ) from error


def _read_dataset(data: DataSection) -> Iterator[Picture]:
    """Rows of a data set that `datasets` loads: saved by save_to_disk, or anything load_dataset takes."""
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
            folders += [Path(config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]  # where it puts what it downloads
    except (OSError, ValueError) as error:  # also what `datasets` raises for a data set it does not find
        raise InputError(f"cannot load {where}: {' '.join(str(error).split())}") from error
    if isinstance(loaded, DatasetDict):
        if data.split not in loaded:
            known = ", ".join(map(str, loaded))
            raise InputError(f"{where} has no split {data.split!r}; it has: {known}; set data.split")
        loaded = loaded[data.split]
    assert isinstance(loaded, Dataset)
    if isinstance(loaded.features.get(data.image_column), Image):
        loaded = loaded.cast_column(data.image_column, Image(decode=False))  # the bytes as they came
    columns = {"data.image_column": data.image_column, "data.question_column": data.question_column}
    _check_columns(where, loaded.features.arrow_schema, columns)
    batches = loaded.select_columns([data.image_column, data.question_column]).with_format("arrow").iter(ROWS_AT_ONCE)
    yield from _pictures(data.split, batches, data.image_column, data.question_column, folders)


def _check_columns(where: str, schema: "pa.Schema", columns: dict[str, str]) -> None:
    """columns: the name of the image column, then of the text column, by the settings that give them."""
    import pyarrow as pa

    for setting, name in columns.items():
        if name not in schema.names:
            raise InputError(f"{where} has no column {name!r}; it has: {', '.join(schema.names)}; set {setting}")
    image_column, text_column = columns.values()
    kind = schema.field(image_column).type
    is_struct = pa.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}
    if not (is_struct or _is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(f"{where}: column {image_column!r} holds {kind}; allowed: bytes, struct<bytes, path>, or path")
    if not _is_text(schema.field(text_column).type):
        kind = schema.field(text_column).type
        raise InputError(f"{where}: column {text_column!r} holds {kind}; allowed: text; set {list(columns)[1]}")


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _pictures(
    name: str, batches: Iterable[Any], image_column: str, text_column: str, folders: list[Path]
) -> Iterator[Picture]:
    """Rows of Arrow batches, their texts read as the bytes they are: one that is no UTF-8 would end the whole batch."""
    index = 0
    for batch in batches:
        kind = batch.schema.field(image_column).type
        images, texts = (_with_bytes(batch[column]).to_pylist() for column in (image_column, text_column))
        for cell, text in zip(images, texts, strict=True):
            if isinstance(cell, dict):
                content, path = cell["bytes"], cell["path"]
            else:
                content, path = (None, cell) if _is_text(kind) else (cell, None)
            path = path and os.fsdecode(path)  # names of files may be no UTF-8 either
            where = f"{name}:{index}"
            image = path if content is None else content
            yield Picture(where, image, [_text(text)], redacted(path or where), folders=folders)
            index += 1


def _with_bytes(column: Any) -> Any:
    """A column with bytes for texts, also in its fields."""
    import pyarrow as pa

    def kind_of(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_struct(kind):
            return pa.struct([(field.name, kind_of(field.type)) for field in kind])
        return pa.large_binary() if _is_text(kind) else kind

    return column.cast(kind_of(column.type))


def _text(content: bytes | None) -> str | bytes | None:
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError:
        return content
