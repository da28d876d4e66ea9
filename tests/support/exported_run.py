"""A labeled run of four pairs, and readers of its exports."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from rlaif.config import Config
from rlaif.interchange.export import export
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter
from tests.support.pair_rows import pair_row

PAIRS = [
    pair_row("one", "What is it?", "A red circle.", "A red circle, and a\nblue star \u2028 there."),
    pair_row("two", "Describe.", "There is one circle.", "Two.", size=(112, 56)),
    pair_row("three", "Is it <image> red?", "Yes.", "No."),
    pair_row("four", "And now?", "A circle.", "A <bbox>.", split="validation"),
]


def export_config(**values: Any) -> Config:
    return Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}, "export": values})


def response(prompt_id: str, index: int) -> dict[str, Any]:
    return {
        "response_id": f"{prompt_id}/{index}",
        "prompt_id": prompt_id,
        "sample_index": index,
        "seed": 0,
        "text": "A red circle.",
        "finish_reason": "stop",
        "num_tokens": 4,
        "temperature": 0.5,
        "top_p": 1.0,
        "policy": "/home/somebody/models/policy",
        "policy_revision": "aaaa",
        "round": 1,
    }


def claim(prompt_id: str, index: int) -> dict[str, Any]:
    return {
        "claim_id": str(index),
        "response_id": f"{prompt_id}/0",
        "prompt_id": prompt_id,
        "claim_index": index,
        "claim": "It is red.",
        "question": "Is it red?",
        "outcome": "asked",
        "reason": "",
        "p_yes": 0.5,
        "p_no": 0.25,
        "p_other": 0.25,
        "verdict": True,
        "labeler": "owner/labeler",
        "labeler_revision": "bbbb",
    }


def labeled_run(path: Path) -> Path:
    """A run of four pairs: three prompts of split train (two of one image), one each of validation and test."""
    generation = Run(path, export_config(), "generation")
    generation.begin(["prompts", "responses"], {"seed": 3, "generation": {"temperature": 0.5}}, inputs=[])
    prompts = [("p1", "aa", "train"), ("p2", "aa", "train"), ("p3", "bb", "train"), ("p4", "cc", "validation")]
    with TableWriter(generation, "prompts", key="prompt_id") as writer:
        writer.write(
            {
                "prompt_id": prompt_id,
                "image": {"bytes": b"", "path": "x.png"},
                "image_sha256": digest * 32,
                "instruction": "Describe.",
                "source": "folder",
                "split": split,
                "reference": None,
            }
            for prompt_id, digest, split in [*prompts, ("p5", "dd", "test")]
        )
    with TableWriter(generation, "responses", key="prompt_id") as writer:
        writer.write(response(prompt_id, index) for prompt_id, _, _ in prompts for index in range(2))
    generation.drop("broken.png", "unreadable_image")
    generation.finish({}, None)
    feedback = Run(path, export_config(), "feedback")
    settings = {
        "seed": 3,
        "labeler": {"model": "/secret/folder"},
        "feedback": {"score": "rejected_count", "prompts": {}},
    }
    feedback.begin(["claims", "scores", "pairs"], settings, inputs=["prompts", "responses"])
    with TableWriter(feedback, "claims", key="prompt_id") as writer:
        writer.write(claim("p1", index) for index in range(5))
    TableWriter(feedback, "scores", key="prompt_id").finish()
    with TableWriter(feedback, "pairs", key="prompt_id", part_rows=1) as writer:
        for pair in PAIRS:
            writer.write([pair])
    for row_id in ("p1/0", "p1/1"):
        feedback.drop(row_id, "equal_text")
    feedback.finish({}, None)
    feedback.update_metrics(feedback={"weak_verdict_share": 0.125, "coverage": 0.9})
    return path


def exported(path: Path, kind: str, **values: Any) -> Path:
    return export(export_config(format=kind, **values), path)


def json_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


def front_matter(folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    return fields


def dropped(path: Path, stage: str) -> list[tuple[str, str, str]]:
    rows = pq.read_table(path / "dropped.parquet").to_pylist()
    return [(row["row_id"], row["reason"], row["detail"]) for row in rows if row["stage"] == stage]


def exported_images(folder: Path, kind: str) -> list[bytes]:
    """The image of each row of the train split."""
    if kind == "trl":
        return [row["images"][0]["bytes"] for row in pq.read_table(folder / "train.parquet").to_pylist()]
    if kind == "rlaif-v":
        return [row["image"]["bytes"] for row in pq.read_table(folder / "train.parquet").to_pylist()]
    return [(folder / row["images"][0]).read_bytes() for row in json_lines(folder / "train.jsonl")]
