"""What the pages show, as plain values: pairs and responses with their claims marked, drops, two runs side by side."""

from collections.abc import Sequence
from typing import Any

from browser.marks import pieces, place
from browser.tables import Row, Snapshot
from rlaif.report.pairs import chip
from rlaif.report.sections import signed

TONES = {True: "yes", False: "no", None: "unknown"}
CLAIM_COLUMNS = "claim, question, outcome, reason, p_yes, p_no, verdict"


def answer(text: str, claims: Sequence[Row]) -> dict[str, Any]:
    """A text in pieces, each with the tone of its claims and the numbers that end there, and the claims themselves."""
    spans = place(text, [claim["claim"] for claim in claims])
    chips = [
        {**chip(claim), "number": index + 1, "tone": TONES[claim["verdict"]], "placed": spans[index] is not None}
        for index, claim in enumerate(claims)
    ]
    shown = [
        {
            "text": piece.text,
            "claims": [index + 1 for index in piece.claims],
            "numbers": [index + 1 for index in piece.ends],
            **_tone([chips[index] for index in piece.claims]),
        }
        for piece in pieces(text, spans)
    ]
    return {
        "pieces": shown,
        "claims": [claim for claim in chips if claim["placed"]],
        "unplaced": [claim for claim in chips if not claim["placed"]],
    }


def _tone(claims: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of several claims in one place the worst counts: rejected, then unknown, then the least certain."""
    for tone in ("no", "unknown", "yes"):
        if sures := [claim["sure"] for claim in claims if claim["tone"] == tone]:
            return {"tone": tone, "depth": round(10 * (max if tone == "no" else min)(sures))}
    return {"tone": "", "depth": 0}


def score(value: float | None) -> str:
    """A score with a true minus; empty where there is none."""
    return "" if value is None else signed(value, None)


def pair_cards(snapshot: Snapshot, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows of the index of pairs with their texts and claims, in the same order."""
    query = (
        "SELECT pair_id, len(images) AS pictures, prompt, chosen, rejected, run.pairs.chosen_claims, "
        "run.pairs.rejected_claims FROM run.pairs WHERE pair_id IN (SELECT unnest(?))"
    )
    contents = {row["pair_id"]: row for row in snapshot.rows(query, [[row["pair_id"] for row in rows]])}
    cards = []
    for row in rows:
        content = contents[row["pair_id"]]
        sides = [
            {
                "name": side,
                "score": score(row[f"{side}_score"]),
                "length": row[f"{side}_length"],
                **answer(text_of(content[side]), content[f"{side}_claims"] or []),
            }
            for side in ("chosen", "rejected")
        ]
        cards.append({**row, **content, "instruction": text_of(content["prompt"]), "sides": sides})
    return cards


def text_of(messages: Sequence[Row] | None) -> str:
    """The texts of messages, one a line."""
    return "\n".join(message["content"] for message in messages or [])


def prompt_row(snapshot: Snapshot, schema: str, prompt_id: str) -> Row | None:
    """A prompt's row of the index; None: the run does not have it."""
    return next(iter(snapshot.rows(f"SELECT * FROM {schema}.prompts_index WHERE prompt_id = ?", [prompt_id])), None)


def responses(snapshot: Snapshot, schema: str, prompt_id: str) -> list[dict[str, Any]]:
    """The responses to a prompt by score, the best first and those without one last, with what became of them."""
    by_prompt = "WHERE prompt_id = ?"
    scores = {
        row["response_id"]: row for row in snapshot.rows(f"SELECT * FROM {schema}.scores {by_prompt}", [prompt_id])
    }
    claims: dict[str, list[Row]] = {}
    query = f"SELECT response_id, {CLAIM_COLUMNS} FROM {schema}.claims {by_prompt} ORDER BY response_id, claim_index"
    for row in snapshot.rows(query, [prompt_id]):
        claims.setdefault(row["response_id"], []).append(row)
    drops: dict[str, list[Row]] = {}
    query = f"SELECT response_id, reason, detail FROM {schema}.dropped_index {by_prompt} ORDER BY position"
    for row in snapshot.rows(query, [prompt_id]):
        drops.setdefault(row["response_id"], []).append(row)
    pairs = snapshot.rows(
        f"SELECT pair_id, chosen_response_id, rejected_response_id FROM {schema}.pairs {by_prompt}", [prompt_id]
    )
    shown = []
    query = (
        "SELECT response_id, sample_index, text, finish_reason, num_tokens FROM "
        f"{schema}.responses {by_prompt} ORDER BY sample_index"
    )
    for row in snapshot.rows(query, [prompt_id]):
        response_id = row["response_id"]
        rated = scores.get(response_id)
        shown.append(
            {
                **row,
                "value": None if rated is None else rated["score"],
                "score": "" if rated is None else score(rated["score"]),
                "bounds": _bounds(rated),
                "coverage": None if rated is None else rated["coverage"],
                "drops": drops.get(response_id, []),
                "roles": [
                    (side, pair["pair_id"])
                    for pair in pairs
                    for side in ("chosen", "rejected")
                    if pair[f"{side}_response_id"] == response_id
                ],
                **answer(row["text"], claims.get(response_id, [])),
            }
        )
    return sorted(shown, key=lambda response: (response["value"] is None, -(response["value"] or 0.0)))


def _bounds(rated: Row | None) -> str:
    if rated is None or rated["score_low"] == rated["score_high"]:
        return ""
    return f"{score(rated['score_low'])} to {score(rated['score_high'])}"


def prompt_drops(snapshot: Snapshot, schema: str, prompt_id: str) -> list[Row]:
    """The drops of the prompt itself."""
    query = f"SELECT stage, reason, detail FROM {schema}.dropped_index WHERE row_id = ? ORDER BY position"
    return snapshot.rows(query, [prompt_id])


def evaluations(snapshot: Snapshot, schema: str, prompt_id: str) -> list[Row]:
    """The greedy answers before and after alignment, in this order."""
    query = f"SELECT which, text, num_tokens FROM {schema}.evaluations WHERE prompt_id = ? ORDER BY which = 'after'"
    return snapshot.rows(query, [prompt_id])


def drop_counts(snapshot: Snapshot) -> list[Row]:
    """The number of drops by stage and reason, the most frequent first."""
    return snapshot.rows(
        "SELECT stage, reason, count(*) AS rows FROM run.dropped_index GROUP BY ALL ORDER BY stage, rows DESC, reason"
    )


def dropped_texts(snapshot: Snapshot, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Dropped rows with the instruction of their prompt and the text of their response, where the run has them."""
    ids = [row["response_id"] for row in rows]
    texts = {
        row["response_id"]: row["text"]
        for row in snapshot.rows(
            "SELECT response_id, text FROM run.responses WHERE response_id IN (SELECT unnest(?))", [ids]
        )
    }
    instructions = {
        row["prompt_id"]: row["instruction"]
        for row in snapshot.rows(
            "SELECT prompt_id, instruction FROM run.prompts_index WHERE prompt_id IN (SELECT unnest(?))",
            [[row["prompt_id"] for row in rows if row["prompt_id"] is not None]],
        )
    }
    return [
        {**row, "text": texts.get(row["response_id"]), "instruction": instructions.get(row["prompt_id"])}
        for row in rows
    ]
