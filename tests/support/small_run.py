"""A small labeled run for the pair builder: equal texts, ties, prompts with one scored response or none."""

import random
from pathlib import Path
from typing import Any

from feedback.divide import coverage
from rlaif.config import Config
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter
from tests.support.runs import label_rows
from tests.support.runs.label_rows import response_row

THINGS = ["dog", "car", "red table", "old lamp", "green bicycle", "window", "Fl\u00fcgel", "\u732b"]
PROMPTS = 12  # the fifth is of split test, without responses; the seventh has one scored response, the ninth none


def write_labeled_run(path: Path, part_rows: int = 7, **feedback: Any) -> Run:
    """A run of `feedback` with labels and without pairs; part_rows: rows in each part of a table."""
    config = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}, "feedback": feedback})
    run = Run(path, config, "feedback")
    run.begin(["claims", "scores", "pairs"], {}, inputs=[])
    rng = random.Random(5)
    tables = {
        name: TableWriter(run, name, key="prompt_id", part_rows=part_rows)
        for name in ("prompts", "responses", "claims", "scores")
    }
    for index in range(PROMPTS):
        prompt_id = f"p{index:02}"
        tables["prompts"].write([prompt_row(prompt_id, "test" if index == 4 else "train")])
        before = ""
        for sample in range(0 if index == 4 else 5):
            response_id = f"{prompt_id}/{sample}"
            claims = [f"There is a {thing}." for thing in rng.sample(THINGS, rng.randint(1, 5))]
            text = "  ".join(claims) + rng.choice(["", " It is nice, I think."])
            if sample == 3 and index % 4 == 1:
                text = f"{before} "
            before = text
            tables["responses"].write([response_row(response_id, prompt_id, sample, text, round=2)])
            rows = [claim_row(response_id, prompt_id, i, claim, rng.random()) for i, claim in enumerate(claims)]
            if index == 10:
                rows = [row | {"verdict": True} for row in rows]
            tables["claims"].write(rows)
            if not ((index == 6 and sample != 2) or index == 8):
                tables["scores"].write([score_row(response_id, prompt_id, rows, text)])
    for writer in tables.values():
        writer.finish()
    return run


def prompt_row(prompt_id: str, split: str) -> dict[str, Any]:
    return label_rows.prompt_row(prompt_id, f"Describe {prompt_id}.", f"image of {prompt_id}".encode(), split=split)


def claim_row(response_id: str, prompt_id: str, index: int, claim: str, p_yes: float) -> dict[str, Any]:
    """The first claim of a response leaves nothing for p(no)."""
    return label_rows.claim_row(response_id, prompt_id, index, claim, p_yes) | {
        "question": claim.replace("There is", "Is there"),
        "p_yes": p_yes * 0.8,
        "p_no": (1 - p_yes) * 0.8 if index else 0.0,
        "p_other": 0.2 if index else 1 - p_yes * 0.8,
    }


def score_row(response_id: str, prompt_id: str, claims: list[dict[str, Any]], text: str) -> dict[str, Any]:
    rejected = sum(not claim["verdict"] for claim in claims)
    return {
        "response_id": response_id,
        "prompt_id": prompt_id,
        "num_claims": len(claims),
        "num_rejected": rejected,
        "num_restated": 0,
        "num_unknown": 0,
        "score": -float(rejected),
        "score_low": -float(rejected),
        "score_high": -float(rejected),
        "coverage": coverage(text, [claim["claim"] for claim in claims]),
        "whole_response_score": len(claims) / 10,
    }
