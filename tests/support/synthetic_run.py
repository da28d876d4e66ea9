"""A finished run without a model: scenes, web captions of them as responses, verdicts that are correct by chance.

For tests of the stages after feedback and dpo. Everything is seeded.
"""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from feedback.pair import Scored, build_pairs
from rlaif.config import Config
from rlaif.storage.files import make_id
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter
from scenes.language import (
    DETAILED_INSTRUCTIONS,
    caption,
    find_mentions,
    honest_mentions,
    mention_is_true,
    web_mentions,
)
from scenes.source import scene_rows
from scenes.world import Scene, SceneObject
from scenes.world.signs import Sign

TRAIN_PROMPTS, TEST_PROMPTS, RESPONSES = 24, 12, 6


def scene_of(reference: dict[str, Any]) -> Scene:
    objects = tuple(SceneObject(**item) for item in reference["objects"])
    sign = Sign(**reference["sign"], board="white") if reference["sign"] else None
    return Scene(reference["width"], reference["height"], reference["kind"], objects, sign)


def sample_caption(reference: dict[str, Any], instruction: str, seed: str, careful: float) -> str:
    """A caption of the scene: honest with probability `careful`, else a web caption."""
    rng = random.Random(seed)
    scene, detailed = scene_of(reference), instruction in DETAILED_INSTRUCTIONS
    if rng.random() < careful:
        return caption(honest_mentions(scene, detailed), rng)
    return caption(web_mentions(scene, detailed, rng), rng)


def model_folder(path: Path, content: str) -> Path:
    """A folder that `model_revision` accepts as a model."""
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_text(content)
    return path


def make_run(folder: Path, *, truth: bool = True, **sections: Any) -> tuple[Config, Path]:
    """A run folder with prompts, responses, claims, scores, pairs and a policy; returns its config and its path.

    truth=False: `reference` is null, as for photographs. sections: sections of the config, over the default;
    no short questions are asked unless `evaluation` says so.
    """
    policy, labeler = model_folder(folder / "models" / "policy", "p"), model_folder(folder / "models" / "labeler", "l")
    sections["evaluation"] = {"short_answers": {"limit": 0}, **sections.get("evaluation", {})}
    config = Config.model_validate({"policy": {"model": str(policy)}, "labeler": {"model": str(labeler)}, **sections})
    path = folder / "run"
    prompts = write_prompts(Run(path, config, "generation"), truth)
    write_feedback(Run(path, config, "feedback"), prompts)
    model_folder(path / "policy", "aligned")
    (path / "dpo").mkdir()
    (path / "dpo" / "log.json").write_text(json.dumps(training_log()))
    return config, path


def write_prompts(run: Run, truth: bool) -> list[dict[str, Any]]:
    run.begin(["prompts", "responses"], {"data": "synthetic", "truth": truth}, inputs=[])
    prompts: list[dict[str, Any]] = []
    responses: list[dict[str, Any]] = []
    for split, count in (("train", TRAIN_PROMPTS), ("test", TEST_PROMPTS)):
        for row in scene_rows(split, count, seed=0):
            digest = hashlib.sha256(row.png).hexdigest()
            prompt_id = make_id(digest, row.instruction)
            prompt: dict[str, Any] = {
                "prompt_id": prompt_id,
                "image": {"bytes": row.png, "path": f"{split}.png"},
                "image_sha256": digest,
                "instruction": row.instruction,
                "source": "scenes",
                "split": split,
                "reference": json.dumps(row.reference) if truth else None,
            }
            prompts.append(prompt)
            for index in range(RESPONSES if split == "train" else 0):
                text = sample_caption(row.reference, row.instruction, f"{prompt_id}/{index}", careful=0.3)
                responses.append(
                    {
                        "response_id": make_id(prompt_id, "1", str(index)),
                        "prompt_id": prompt_id,
                        "sample_index": index,
                        "seed": 0,
                        "text": text,
                        "finish_reason": "stop",
                        "num_tokens": len(text.split()),
                        "temperature": 1.0,
                        "top_p": 1.0,
                        "policy": "synthetic",
                        "policy_revision": "0",
                        "round": 1,
                    }
                )
            prompt["truth"] = row.reference
            prompt["responses"] = [response for response in responses if response["prompt_id"] == prompt_id]
    with TableWriter(run, "prompts", key="prompt_id") as writer:
        writer.write({k: v for k, v in prompt.items() if k not in ("truth", "responses")} for prompt in prompts)
    with TableWriter(run, "responses", key="prompt_id") as writer:
        writer.write(responses)
    run.drop("broken.jpg", "unreadable_image", "cannot identify image file")
    run.finish({"prompts": len(prompts), "responses": len(responses)}, None)
    return prompts


def write_feedback(run: Run, prompts: list[dict[str, Any]]) -> None:
    """Verdicts that are correct with probability 0.95, whole-response scores that are mostly noise."""
    settings = {"labeler": "synthetic", "seed": run.config.seed, "feedback": run.config.feedback.model_dump()}
    run.begin(["claims", "scores", "pairs"], settings, inputs=["prompts", "responses"])
    rng = random.Random(0)
    tables: dict[str, list[dict[str, Any]]] = {"claims": [], "scores": [], "pairs": []}
    for prompt in prompts:
        claims, scored = {}, []
        for response in prompt["responses"]:
            rows = [claim_row(response, i, mention, prompt, rng) for i, mention in enumerate(mentions_of(response))]
            rejected = sum(not row["verdict"] for row in rows)
            claims[response["response_id"]] = rows
            tables["claims"] += rows
            tables["scores"].append(
                {
                    "response_id": response["response_id"],
                    "prompt_id": prompt["prompt_id"],
                    "num_claims": len(rows),
                    "num_rejected": rejected,
                    "num_restated": 0,
                    "num_unknown": 0,
                    "score": float(-rejected),
                    "score_low": float(-rejected),
                    "score_high": float(-rejected),
                    "coverage": 1.0,
                    "whole_response_score": rng.gauss(-0.2 * rejected, 0.5),
                }
            )
            scored.append(Scored(response["response_id"], response["text"], float(-rejected)))
        pairs, drops = build_pairs(prompt["prompt_id"], scored, limit=2, seed=0) if scored else ([], [])
        for drop in drops:
            run.drop(drop.row_id, drop.reason, drop.detail)
        tables["pairs"] += [pair_row(prompt, pair, claims) for pair in pairs]
    for table, rows in tables.items():
        with TableWriter(run, table, key="prompt_id") as writer:
            writer.write(rows)
    run.finish({table: len(rows) for table, rows in tables.items()}, None)


def mentions_of(response: dict[str, Any]) -> list[Any]:
    return list(dict.fromkeys(find_mentions(response["text"])))


def claim_row(
    response: dict[str, Any], index: int, mention: Any, prompt: dict[str, Any], rng: random.Random
) -> dict[str, Any]:
    correct = mention_is_true(mention, prompt["truth"]) == (rng.random() < 0.95)
    p_yes = min(max(rng.betavariate(9, 0.6) if correct else rng.betavariate(0.6, 9), 0.001), 0.999)
    return {
        "claim_id": make_id(response["response_id"], str(index)),
        "response_id": response["response_id"],
        "prompt_id": prompt["prompt_id"],
        "claim_index": index,
        "claim": mention.claim,
        "question": mention.question,
        "outcome": "asked",
        "reason": "",
        "p_yes": p_yes,
        "p_no": 1 - p_yes,
        "p_other": 0.0,
        "verdict": p_yes > 1 - p_yes,
        "labeler": "synthetic",
        "labeler_revision": "0",
    }


def pair_row(prompt: dict[str, Any], pair: Any, claims: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    kept = ("claim", "question", "outcome", "p_yes", "p_no", "verdict")
    row = {
        "pair_id": make_id(pair.chosen.response_id, pair.rejected.response_id),
        "prompt_id": prompt["prompt_id"],
        "images": [prompt["image"]],
        "prompt": [{"role": "user", "content": prompt["instruction"]}],
        "round": 1,
        "split": "train",
    }
    for side, response in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        row[side] = [{"role": "assistant", "content": response.text}]
        row[f"{side}_response_id"] = response.response_id
        row[f"{side}_score"] = response.score
        row[f"{side}_claims"] = [{name: claim[name] for name in kept} for claim in claims[response.response_id]]
    return row


def training_log() -> list[dict[str, float]]:
    """What TRL logs: a loss that falls from ln 2, a margin that grows, and a last entry about the whole training."""
    rng = random.Random(0)
    entries = []
    for step in range(1, 41):
        margin = 1.6 * (1 - 0.94**step) + rng.gauss(0, 0.06)
        entries.append(
            {
                "step": step,
                "loss": 0.693 - 0.3 * margin / 1.6 + rng.gauss(0, 0.012),
                "rewards/chosen": 0.3 * margin,
                "rewards/rejected": -0.7 * margin,
                "rewards/margins": margin,
            }
        )
    return [*entries, {"step": 40, "train_runtime": 100.0, "train_loss": 0.5}]
