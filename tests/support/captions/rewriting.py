"""Raw captions as a table, a configuration that rewrites them, and what a scripted rewriter answers."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.config import CaptionsSection, EngineSection, ModelSection, RewriteConfig, RewriteSection
from rlaif.inference.engine import Request
from tests.support.photographs import encoded, photo


def raw_table(path: Path, captions: list[str | None], **columns: list[Any]) -> Path:
    image = {"bytes": encoded(photo(20, 20), "PNG"), "path": None}
    pq.write_table(pa.table({"image": [image] * len(captions), "caption": captions} | columns), path)
    return path


def make_config(model: Path, table: Path, **rules: Any) -> RewriteConfig:
    return RewriteConfig(
        rewriter=ModelSection(model=str(model), dtype="float32"),
        captions=CaptionsSection(path=str(table)),
        rewrite=RewriteSection(**{"max_tokens": 40, **rules}),
        engine=EngineSection(max_model_len=512, max_num_seqs=8),
    )


ANSWERS = {
    "redcar at teh tpo": "A red car at the top.",
    "IMG_1.jpg": "",
    "red book red book": "A red book and a blue car.",
    "blue book, small": "A blue zzz book, small.",
    "big dog": "big dog big dog big dog big dog...",
}


def rewritten(request: Request) -> list[str]:
    """The answer to a raw caption, by default the caption itself."""
    raw = request.text.rpartition("Caption: ")[2]
    answer = ANSWERS.get(raw, raw)
    return [answer if answer.endswith("...") else json.dumps({"question": "What is it?", "answer": answer})]
