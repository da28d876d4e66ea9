"""A small run for the browser: hostile and Chinese texts, claims of all verdicts, drops, a picture that is broken."""

import io
from pathlib import Path
from typing import Any

from PIL import Image

from rlaif.config import Config
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter
from tests.support.runs.label_rows import claim_row, prompt_row, response_row

HOSTILE = 'A dog runs. <script>alert("x")</script> <img src=x onerror=alert(1)> {{ 7 * 7 }} \u202eevil'
CONFIG = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}})
GENERATION = {"generation": {"splits": ["train"], "num_responses": 2}}
# prompt_id -> instruction, responses, claims of each: text and p(yes), None: unknown
PROMPTS: dict[str, tuple[str, list[tuple[str, list[tuple[str, float | None]]]]]] = {
    "p1": (
        "Describe <b>it</b>.",
        [
            ("A red dog runs, a cat sleeps and a bird sings.", [("There is a red dog.", 0.9), ("A cat sleeps.", 0.45)]),
            (HOSTILE, [("A dog runs.", 0.2), ("<i>Nothing</i> else.", None)]),
        ],
    ),
    "p2": (
        "\u63cf\u8ff0\u56fe\u7247\u3002",
        [
            (
                "\u4e00\u53ea\u7ea2\u72d7\uff0c\u4e00\u53ea\u84dd\u732b\u3002\u5929\u7a7a\u662f\u9ed1\u7684\u3002",
                [("\u6709\u4e00\u53ea\u84dd\u732b\u3002", 0.97)],
            ),
            ("\u4e00\u8f86\u8f66\u3002", [("\u6709\u4e00\u8f86\u8f66\u3002", 0.1)]),
        ],
    ),
    "p3": ("What is this?", [("A lamp.", [("There is a lamp.", 0.8)]), ("A lamp!", [("It is a lamp.", 0.8)])]),
}


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def write_run(path: Path, worse: float = 0.0) -> Path:
    """A run after feedback. worse: taken from every score."""
    run = generate(path)
    run.finish({"prompts": 4, "responses": 6}, None)
    label(path, worse)
    return path


def generate(path: Path) -> Run:
    """Prompts and responses of a run whose generation has not been marked as finished."""
    run = Run(path, CONFIG, "generation")
    run.begin(["prompts", "responses"], GENERATION, inputs=[])
    with TableWriter(run, "prompts", key="prompt_id") as writer:
        writer.write(
            prompt_row(
                name,
                text,
                png() if name != "p3" else b"no picture",
                split="test" if name == "p4" else "train",
            )
            for name, text in instructions()
        )
    with TableWriter(run, "responses", key="prompt_id") as writer:
        for name, (_, responses) in PROMPTS.items():
            writer.write(
                response_row(f"{name}/{index}", name, index, text) for index, (text, _) in enumerate(responses)
            )
    run.drop("broken.jpg", "unusable_image", "broken image: cut short")
    return run


def instructions() -> list[tuple[str, str]]:
    return [*((name, text) for name, (text, _) in PROMPTS.items()), ("p4", "Not sampled.")]


def label(path: Path, worse: float) -> None:
    """Claims, scores, pairs of p1 and p2, and the drops."""
    run = Run(path, CONFIG, "feedback")
    run.begin(["claims", "scores", "pairs"], {}, inputs=["prompts", "responses"])
    claims = TableWriter(run, "claims", key="prompt_id")
    scores = TableWriter(run, "scores", key="prompt_id")
    pairs = TableWriter(run, "pairs", key="prompt_id")
    for name, (instruction, responses) in PROMPTS.items():
        rows = [
            [claim_row(f"{name}/{index}", name, number, *claim) for number, claim in enumerate(found)]
            for index, (_, found) in enumerate(responses)
        ]
        claims.write(row for found in rows for row in found)
        values = [-float(sum(row["verdict"] is False for row in found)) - worse for found in rows]
        scores.write(
            score_row(f"{name}/{index}", name, found, value)
            for index, (found, value) in enumerate(zip(rows, values, strict=True))
        )
        if name == "p3":
            run.drop("p3", "all_scores_equal", "2 responses score 0")
        else:
            chosen, rejected = rows
            pairs.write([pair_row(name, instruction, [text for text, _ in responses], values, chosen, rejected)])
    for writer in (claims, scores, pairs):
        writer.finish()
    run.drop("p1/1/1", "invented_claim", "'<i>Nothing</i> else.'")
    run.finish({"claims": 7, "scores": 6, "pairs": 2}, None)


def score_row(response_id: str, name: str, claims: list[dict[str, Any]], value: float) -> dict[str, Any]:
    unknown = sum(claim["verdict"] is None for claim in claims)
    return {
        "response_id": response_id,
        "prompt_id": name,
        "num_claims": len(claims),
        "num_rejected": sum(claim["verdict"] is False for claim in claims),
        "num_restated": 0,
        "num_unknown": unknown,
        "score": value,
        "score_low": value - unknown,
        "score_high": value,
        "coverage": 0.5,
        "whole_response_score": None,
    }


def pair_row(
    name: str,
    instruction: str,
    texts: list[str],
    scores: list[float],
    chosen: list[dict[str, Any]],
    rejected: list[dict[str, Any]],
) -> dict[str, Any]:
    fields = ("claim", "question", "outcome", "p_yes", "p_no", "verdict")
    return {
        "pair_id": f"pair-{name}",
        "prompt_id": name,
        "images": [{"bytes": png(), "path": f"{name}.png"}],
        "prompt": [{"role": "user", "content": instruction}],
        "chosen": [{"role": "assistant", "content": texts[0]}],
        "rejected": [{"role": "assistant", "content": texts[1]}],
        "chosen_response_id": f"{name}/0",
        "rejected_response_id": f"{name}/1",
        "chosen_score": scores[0],
        "rejected_score": scores[1] - 1,
        "chosen_claims": [{field: claim[field] for field in fields} for claim in chosen],
        "rejected_claims": [{field: claim[field] for field in fields} for claim in rejected],
        "round": 1,
        "split": "train",
    }
