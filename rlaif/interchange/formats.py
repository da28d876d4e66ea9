"""Preference pairs in the formats of other tools: which pairs fit a format, and its files, one per split.

| format        | files                                   | a row                                             |
|---------------|-----------------------------------------|---------------------------------------------------|
| trl           | train.parquet                           | a row of `pairs`                                  |
| rlaif-v       | train.parquet                           | the columns of openbmb/RLAIF-V-Dataset            |
| llama-factory | train.jsonl, images/, dataset_info.json | messages, chosen, rejected, images                |
| ms-swift      | train.jsonl, images/                    | messages to the chosen answer, rejected_response, |
|               |                                         | images                                            |

The last two put an image where the text has `<image>`, and know more such marks: LLaMA-Factory stops at a text whose
marks and images differ in number (its mm_plugin.py), ms-swift takes every mark for an image (its template/base.py).
Removing a mark would change the text, so a pair whose texts contain one is dropped.

Every format gets images that other tools decode to the pixels that were judged: see `model.images.plain_file`. Those of
`make generate` are such files already, and stay as they are.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlaif.storage.schemas import RLAIF_V, SCHEMAS
from rlaif.storage.writer import parquet_writer

MARKS = {
    "llama-factory": re.compile(r"<(?:image|video|audio)>|\{\{(?:image|video|audio)\}\}"),
    "ms-swift": re.compile(r"<(?:image|video|audio|img|bbox|ref-object|cot-process|start-image)>"),
}
SUFFIXES = {"trl": "parquet", "rlaif-v": "parquet", "llama-factory": "jsonl", "ms-swift": "jsonl"}

Drop = Callable[[str, str, str], None]  # (row_id, reason, detail)


def text_of(pairs: pa.Table, column: str) -> pa.ChunkedArray:
    """The texts of a column of messages; `feedback` writes one message per column."""
    return pc.struct_field(pc.list_element(pairs[column], 0), "content")


def fitting_pairs(pairs: pa.Table, kind: str, drop: Drop) -> pa.Table:
    """The pairs that fit a format; the others are dropped with the reason."""
    ids = pairs["pair_id"].to_pylist()
    faults: dict[int, tuple[str, str]] = {}
    if kind == "rlaif-v":
        for index, count in enumerate(pc.list_value_length(pairs["images"]).to_pylist()):
            if count != 1:
                faults[index] = ("not_one_image", f"{count} images; the format holds one")
    elif kind in MARKS:
        for column in ("prompt", "chosen", "rejected"):
            for index, text in enumerate(text_of(pairs, column).to_pylist()):
                if mark := MARKS[kind].search(text):
                    faults[index] = ("image_mark_in_text", f"{mark[0]} in {column}")
    for index, fault in faults.items():
        drop(ids[index], *fault)
    return pairs.filter(pa.array([index not in faults for index in range(len(ids))], pa.bool_()))


def with_plain_images(pairs: pa.Table, drop: Drop) -> pa.Table:
    """The pairs with images as of `model.images.plain_file`; a pair with one that does not decode is dropped."""
    from model.images import plain_file

    ids, rows = pairs["pair_id"].to_pylist(), pairs["images"].to_pylist()
    plain: dict[bytes, bytes] = {}
    faults: dict[int, str] = {}
    for index, row in enumerate(rows):
        try:
            for image in row:
                data = image["bytes"]
                if data not in plain:
                    plain[data] = plain_file(data)[0]
                image["bytes"] = plain[data]
        except ValueError as error:
            faults[index] = str(error)
    for index, fault in faults.items():
        drop(ids[index], "unusable_image", fault)
    if any(data is not content for data, content in plain.items()):
        images = pa.chunked_array([pa.array(rows, pairs.schema.field("images").type)])
        pairs = pairs.set_column(pairs.schema.get_field_index("images"), "images", images)
    return pairs.filter(pa.array([index not in faults for index in range(len(ids))], pa.bool_()))


class SplitFiles:
    """Writes pairs to one file per split; a context manager. Only the pairs of one call are in memory."""

    def __init__(self, folder: Path, kind: str, origin: dict[str, str]) -> None:
        """origin: for `rlaif-v`, its columns ds_name, origin_dataset and origin_split, equal in every row."""
        self.folder = folder
        self.rows: dict[str, int] = {}  # by split
        self._kind = kind
        self._origin = origin
        self._open = ExitStack()
        self._tables: dict[str, pq.ParquetWriter] = {}
        self._texts: dict[str, TextIO] = {}

    def __enter__(self) -> "SplitFiles":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def write(self, pairs: pa.Table) -> None:
        for split in pc.unique(pairs["split"]).to_pylist():
            rows = pairs.filter(pc.equal(pairs["split"], split))
            self.rows[split] = self.rows.get(split, 0) + rows.num_rows
            path = self.folder / f"{split}.{SUFFIXES[self._kind]}"
            if self._kind in MARKS:
                if split not in self._texts:
                    self._texts[split] = self._open.enter_context(path.open("w", encoding="utf-8"))
                self._texts[split].writelines(self._lines(rows))
            else:
                if split not in self._tables:
                    schema = RLAIF_V if self._kind == "rlaif-v" else SCHEMAS["pairs"]
                    self._tables[split] = self._open.enter_context(parquet_writer(path, schema))
                rows = rlaif_v_columns(rows, self._origin) if self._kind == "rlaif-v" else rows
                self._tables[split].write_table(rows.cast(self._tables[split].schema))

    def _lines(self, pairs: pa.Table) -> Iterator[str]:
        convert = llama_factory_row if self._kind == "llama-factory" else ms_swift_row
        for row in pairs.select(["images", "prompt", "chosen", "rejected"]).to_pylist():
            images = [save_image(image["bytes"], self.folder) for image in row["images"]]
            yield json.dumps(convert(row, images), ensure_ascii=False) + "\n"


def rlaif_v_columns(pairs: pa.Table, origin: dict[str, str]) -> pa.Table:
    """Pairs in the columns of RLAIF-V-Dataset; `origin` has the columns that are equal in all rows."""
    image = pc.list_element(pairs["images"], 0)
    columns = {name: pa.repeat(value, pairs.num_rows) for name, value in origin.items()}
    columns |= {
        "image": image,
        "question": text_of(pairs, "prompt"),
        "chosen": text_of(pairs, "chosen"),
        "rejected": text_of(pairs, "rejected"),
        "idx": pairs["pair_id"],
        "image_path": pc.struct_field(image, "path"),
    }
    return pa.table([columns[name] for name in RLAIF_V.names], schema=RLAIF_V)


def llama_factory_row(pair: dict[str, Any], images: list[str]) -> dict[str, Any]:
    """A line for LLaMA-Factory's sharegpt layout with OpenAI's keys, as `dataset_info` registers it."""
    return {
        "messages": [_prompt_message(pair, images)],
        "chosen": pair["chosen"][0],
        "rejected": pair["rejected"][0],
        "images": images,
    }


def ms_swift_row(pair: dict[str, Any], images: list[str]) -> dict[str, Any]:
    """A line in ms-swift's standard layout."""
    return {
        "messages": [_prompt_message(pair, images), pair["chosen"][0]],
        "rejected_response": pair["rejected"][0]["content"],
        "images": images,
    }


def _prompt_message(pair: dict[str, Any], images: list[str]) -> dict[str, str]:
    (message,) = pair["prompt"]
    return {"role": message["role"], "content": "<image>" * len(images) + message["content"]}


def dataset_info(name: str, splits: list[str]) -> dict[str, Any]:
    """dataset_info.json of LLaMA-Factory: one data set per split, named after run and split."""
    return {
        f"{name}_{split}": {
            "file_name": f"{split}.jsonl",
            "formatting": "sharegpt",
            "ranking": True,
            "columns": {"messages": "messages", "chosen": "chosen", "rejected": "rejected", "images": "images"},
            "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
        }
        for split in splits
    }


def save_image(data: bytes, folder: Path) -> str:
    """Write an image below `folder`, once, named by its hash; returns its path relative to `folder`."""
    from model.images import plain_file

    content, kind = plain_file(data)
    name = f"images/{hashlib.sha256(content).hexdigest()[:16]}.{kind.lower()}"
    path = folder / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return name
