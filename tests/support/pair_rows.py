"""Rows of the pairs table (flat images of different shapes, answers of different lengths) and of the scores table."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from rlaif.config import Config
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter

SIZES = [(56, 56), (112, 56), (40, 90), (150, 60)]  # one slice, and several


def png(size: tuple[int, int], color: tuple[int, int, int] = (200, 40, 40)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


def pair_row(
    pair_id: str,
    question: str,
    chosen: str,
    rejected: str,
    size: tuple[int, int] | None = (56, 56),
    split: str = "train",
) -> dict[str, Any]:
    """`size`: of the image; None: a pair without one."""
    return {
        "pair_id": pair_id,
        "prompt_id": f"prompt of {pair_id}",
        "images": [] if size is None else [{"bytes": png(size), "path": None}],
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "chosen_response_id": f"chosen of {pair_id}",
        "rejected_response_id": f"rejected of {pair_id}",
        "chosen_score": 0.0,
        "rejected_score": -1.0,
        "chosen_claims": [],
        "rejected_claims": [],
        "round": 1,
        "split": split,
    }


def varied_pairs(count: int, split: str = "train") -> list[dict[str, Any]]:
    question = "what is in this picture"
    return [
        pair_row(f"{split}-{i}", question, "a red circle" + " left" * (i % 3), f"a blue star {i}", SIZES[i % 4], split)
        for i in range(count)
    ]


def write_pairs(path: Path, config: Config, rows: Iterable[dict[str, Any]]) -> None:
    """Write pairs.parquet as the feedback stage does."""
    run = Run(path, config, "feedback")
    assert run.begin(["pairs"], {"seed": config.seed, "feedback": config.feedback.model_dump()}, inputs=[])
    with TableWriter(run, "pairs", key="prompt_id") as writer:
        writer.write(rows)
    run.finish({"pairs": 0}, None)


def open_run(folder: Path, **settings: Any) -> Run:
    """A run of feedback in FOLDER/run, in which the scores table may be written."""
    config = Config.model_validate({"policy": {"model": "a"}, "labeler": {"model": "b"}})
    run = Run(folder / "run", config, "feedback")
    assert run.begin(["scores"], settings, inputs=[])
    return run


def score_rows(prompt: str, count: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "response_id": f"{prompt}-{index}",
            "prompt_id": prompt,
            "num_claims": 3,
            "num_rejected": index,
            "num_restated": 0,
            "num_unknown": 0,
            "score": -float(index),
            "score_low": -float(index),
            "score_high": -float(index),
            "coverage": 1.0,
            "whole_response_score": 0.5,
        }
        for index in range(count)
    ]
