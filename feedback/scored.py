"""Scored responses with their claims, side by side as columns, and rows of `pairs` from them.

The pair builder looks at ids, texts and scores alone; images and claims stay in Arrow and become no Python objects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedback.pairs import Scored
from rlaif.errors import InputError
from rlaif.storage.files import make_id
from rlaif.storage.join import Rows
from rlaif.storage.schemas import SCHEMAS

VERIFIED_COLUMNS = ("claim", "question", "p_yes", "p_no", "verdict")


@dataclass(frozen=True)
class ScoredResponses:
    """The scored responses of some prompts, in the order of `scores`.

    coverage: of each response. starts: those of the i-th prompt are starts[i] to starts[i + 1]. claims: of all of them,
    in order; those of the i-th response are claim_starts[i] to claim_starts[i + 1].
    """

    scored: list[Scored]
    rounds: pa.Array
    coverage: pa.ChunkedArray
    starts: Sequence[int]
    claims: pa.Table
    claim_starts: np.ndarray


def scored_answers(tables: Mapping[str, Rows]) -> ScoredResponses:
    """The scored responses from rows of `responses`, `claims` and `scores`; claims of others are left out.

    Errors: InputError where a score has no response.
    """
    responses, scores, claims = (tables[name].table for name in ("responses", "scores", "claims"))
    ids = scores["response_id"].combine_chunks()
    found = pc.index_in(ids, responses["response_id"].combine_chunks())
    if found.null_count:
        raise InputError(
            f"scores.parquet does not fit responses.parquet: response {ids.filter(found.is_null())[0]} is not there; "
            "delete the run folder and make both again"
        )
    texts = responses["text"].take(found).to_pylist()
    scored = [Scored(*one) for one in zip(ids.to_pylist(), texts, scores["score"].to_pylist(), strict=True)]
    owners = pc.index_in(claims["response_id"].combine_chunks(), ids).fill_null(len(ids)).to_numpy()
    claim_starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(ids))[: len(ids)])])
    order = np.argsort(owners, kind="stable")[: claim_starts[-1]]
    return ScoredResponses(
        scored,
        responses["round"].take(found).combine_chunks(),
        scores["coverage"],
        tables["scores"].starts.tolist(),
        claims.take(pa.array(order)),
        claim_starts,
    )


def pair_rows(prompts: pa.Table, answers: ScoredResponses, picked: Sequence[tuple[int, int, int]]) -> pa.Table:
    """Rows of `pairs`: messages as TRL takes them, the image, and why the one was preferred.

    picked: (prompt, chosen, rejected), rows of `prompts` and places in `answers`.
    """
    places = dict(zip(("prompt", "chosen", "rejected"), map(pa.array, zip(*picked, strict=True)), strict=True))
    asked = prompts.take(places["prompt"])
    judged = pa.ListArray.from_arrays(
        pa.array(answers.claim_starts, pa.int32()),
        answers.claims.select(VERIFIED_COLUMNS).to_struct_array().combine_chunks(),
    )
    columns = {
        "prompt_id": asked["prompt_id"],
        "images": _each_alone(asked["image"].combine_chunks()),
        "prompt": _messages("user", asked["instruction"].combine_chunks()),
        "round": answers.rounds.take(places["chosen"]),
        "split": asked["split"],
    }
    for side in ("chosen", "rejected"):
        own = [answers.scored[place] for place in places[side].to_pylist()]
        columns[side] = _messages("assistant", pa.array([response.text for response in own]))
        columns[f"{side}_response_id"] = pa.array([response.response_id for response in own])
        columns[f"{side}_score"] = pa.array([response.score for response in own])
        columns[f"{side}_claims"] = judged.take(places[side])
    both = zip(columns["chosen_response_id"].to_pylist(), columns["rejected_response_id"].to_pylist(), strict=True)
    columns["pair_id"] = pa.array([make_id(*ids) for ids in both])
    names = SCHEMAS["pairs"].names
    return pa.table([columns[name] for name in names], names)


def _messages(role: str, texts: pa.Array) -> pa.ListArray:
    return _each_alone(pa.StructArray.from_arrays([pa.repeat(role, len(texts)), texts], ["role", "content"]))


def _each_alone(values: pa.Array) -> pa.ListArray:
    """Each value as a list of one."""
    return pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), values)
