"""Rows and files in the published layouts: three pairs each, about two images, and rows that must be dropped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.storage.schemas import RLAIF_V
from tests.support.pair_rows import png

Row = dict[str, Any]
IMAGES = [png((56, 56)), png((112, 56), (20, 60, 200))]
# (image, question, chosen, rejected): the first two are about one image.
PAIRS = [
    (0, "What is it?", "A red square.", "A blue circle."),
    (0, "Describe the image.", "There is a red square.", "There are two dogs."),
    (1, "What is it?", "A blue bar.", "A red bar."),
]


def parts(text: str, images: int = 0) -> list[Row]:
    """Content of a message as parts; `datasets` gives the fields of all parts to each."""
    return [{"text": None, "type": "image"}] * images + [{"text": text, "type": "text"}]


def rlaif_v(index: int) -> Row:
    image, question, chosen, rejected = PAIRS[index]
    return {
        "ds_name": "RLAIF-V",
        "image": {"bytes": IMAGES[image], "path": f"llava1.5_{index}.jpg"},
        "question": question,
        "chosen": chosen,
        "rejected": rejected,
        "origin_dataset": "LCS-558K",
        "origin_split": json.dumps({"model": "LLaVA15-base-7b", "type": "detailed description"}),
        "idx": str(index),
        "image_path": f"llava1.5_{index}.jpg",
    }


def rlaif_v_formatted(index: int) -> Row:
    image, question, chosen, rejected = PAIRS[index]
    return {
        "images": [{"bytes": IMAGES[image], "path": None}],
        "prompt": [{"content": parts(question, images=1), "role": "user"}],
        "chosen": [{"content": parts(chosen), "role": "assistant"}],
        "rejected": [{"content": parts(rejected), "role": "assistant"}],
    }


def llamafactory(index: int) -> Row:
    image, question, chosen, rejected = PAIRS[index]
    return {
        "conversations": [{"from": "human", "value": f"<image>{question}"}],
        "chosen": {"from": "gpt", "value": chosen},
        "rejected": {"from": "gpt", "value": rejected},
        "images": [{"bytes": IMAGES[image], "path": None}],
    }


def mm_rlhf(index: int) -> Row:
    image, question, chosen, rejected = PAIRS[index]
    return {
        "id": f"MIA-Bench_{index}",
        "image": f"long/{image}.png",
        "prompt": f"<image>\n{question}",
        "chosen": chosen,
        "rejected": rejected,
        "score_gap": 2,
    }


def mmpr(index: int) -> Row:
    image, question, chosen, rejected = PAIRS[index]
    return {"image": f"{image}.png", "question": f"<image>\n{question}", "chosen": chosen, "rejected": rejected}


def rlhf_v(index: int) -> Row:
    image, question, chosen, rejected = PAIRS[index]
    return {
        "ds_name": "RLHF-V",
        "image": {"bytes": IMAGES[image], "path": None},
        "text": json.dumps({"question": question, "chosen": chosen, "rejected": rejected}),
        "origin_dataset": "vqav2",
        "origin_split": json.dumps({"model": "muffin", "type": "question answering"}),
        "idx": index,
        "image_path": "x.jpg",
    }


def ms_swift(index: int) -> Row:
    image, question, chosen, rejected = PAIRS[index]
    return {
        "messages": [{"role": "user", "content": f"<image>{question}"}, {"role": "assistant", "content": chosen}],
        "rejected_response": rejected,
        "images": [f"long/{image}.png"],
    }


def responses(index: int) -> Row:
    image, question, *texts = PAIRS[index]
    return {"image": f"long/{image}.png", "question": question, "responses": texts, "policy": "some/model"}


ROWS: dict[str, Callable[[int], Row]] = {
    "rlaif-v": rlaif_v,
    "messages": rlaif_v_formatted,
    "conversations": llamafactory,
    "mm-rlhf": mm_rlhf,
    "mmpr": mmpr,
    "rlhf-v": rlhf_v,
    "ms-swift": ms_swift,
    "responses": responses,
}
PUBLISHED = ("rlaif-v", "messages", "conversations", "mm-rlhf", "mmpr", "rlhf-v")


def write(folder: Path, layout: str, rows: list[Row] | None = None) -> Path:
    """Write rows, by default the three pairs, as that layout is published; returns what DATA= names."""
    rows = [ROWS[layout](index) for index in range(len(PAIRS))] if rows is None else rows
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "mmpr":
        return _write_mmpr(folder / "MMPR-v1.2", rows)
    if layout in ("mm-rlhf", "ms-swift", "responses"):
        _write_images(folder / "long")
        return write_lines(folder / "dpo_pairs.jsonl", rows)
    file = folder / "data.parquet"
    schema = RLAIF_V if layout == "rlaif-v" else None
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
    return file


def write_lines(file: Path, rows: list[Row]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def _write_mmpr(folder: Path, rows: list[Row]) -> Path:
    """meta.json with two annotation files, whose paths start above the folder, as published."""
    _write_images(folder / "images" / "m3cot")
    (folder / "annotations").mkdir()
    meta = {}
    for name, some in (("m3cot_train", rows[:1]), ("m3cot_extra", rows[1:])):
        write_lines(folder / "annotations" / f"{name}.jsonl", some)
        meta[name] = {
            "root": "MMPR-v1.2/images/m3cot",
            "annotation": f"MMPR-v1.2/annotations/{name}.jsonl",
            "data_augment": False,
            "max_dynamic_patch": 6,
            "repeat_time": 1,
            "length": len(some),
        }
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder / "meta.json"


def _write_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    for index, image in enumerate(IMAGES):
        (folder / f"{index}.png").write_bytes(image)
