"""Rows of prompts, responses and claims; further keywords set further columns."""

from typing import Any


def prompt_row(prompt_id: str, instruction: str, image: bytes, **columns: Any) -> dict[str, Any]:
    return {
        "prompt_id": prompt_id,
        "image": {"bytes": image, "path": f"{prompt_id}.png"},
        "image_sha256": prompt_id,
        "instruction": instruction,
        "source": "test",
        "split": "train",
        "reference": None,
        **columns,
    }


def response_row(response_id: str, prompt_id: str, sample: int, text: str, **columns: Any) -> dict[str, Any]:
    return {
        "response_id": response_id,
        "prompt_id": prompt_id,
        "sample_index": sample,
        "seed": 0,
        "text": text,
        "finish_reason": "stop",
        "num_tokens": len(text),
        "temperature": 1.0,
        "top_p": 1.0,
        "policy": "p",
        "policy_revision": "0",
        "round": 1,
        **columns,
    }


def claim_row(
    response_id: str, prompt_id: str, index: int, claim: str, p_yes: float | None, **columns: Any
) -> dict[str, Any]:
    """p_yes: None for an unknown claim; the rest is p(no)."""
    return {
        "claim_id": f"{response_id}/{index}",
        "response_id": response_id,
        "prompt_id": prompt_id,
        "claim_index": index,
        "claim": claim,
        "question": f"{claim}?",
        "outcome": "unknown" if p_yes is None else "asked",
        "reason": "invented_claim" if p_yes is None else "",
        "p_yes": p_yes,
        "p_no": None if p_yes is None else 1 - p_yes,
        "p_other": None if p_yes is None else 0.0,
        "verdict": None if p_yes is None else p_yes > 0.5,
        "labeler": "l",
        "labeler_revision": "0",
        **columns,
    }
