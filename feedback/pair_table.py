"""Tables -> scored responses with their claims -> rows of `pairs`, column by column.

The pair builder needs ids, texts and scores only; images and claims stay in Arrow and never become Python objects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedback.first_difference import Cut, Response, VerifiedClaim
from feedback.pair import Pair, Scored
from rlaif.errors import InputError
from rlaif.storage.files import make_id
from rlaif.storage.join import Rows
from rlaif.storage.schemas import SCHEMAS

VERIFIED_COLUMNS = ("claim", "question", "outcome", "p_yes", "p_no", "verdict")


@dataclass(frozen=True)
class ScoredResponses:
    """The scored responses of some prompts, in the order of `scores`.

    coverage: of each response. starts: the responses of prompt i are starts[i] to starts[i + 1]. claims: of all
    responses, in order; the claims of response i are claim_starts[i] to claim_starts[i + 1].
    """

    scored: list[Scored]
    rounds: pa.Array
    coverage: pa.ChunkedArray
    starts: Sequence[int]
    claims: pa.Table
    claim_starts: np.ndarray


def scored_responses(tables: Mapping[str, Rows]) -> ScoredResponses:
    """The scored responses, from rows of `responses`, `claims` and `scores`; claims of unscored responses are ignored.

    Errors: InputError for a score without its response.
    """
    responses, scores, claims = (tables[name].table for name in ("responses", "scores", "claims"))
    ids = scores["response_id"].combine_chunks()
    indices = pc.index_in(ids, responses["response_id"].combine_chunks())
    if indices.null_count:
        raise InputError(
            f"scores.parquet has a score of response {ids.filter(indices.is_null())[0]}, which responses.parquet does "
            "not contain; delete the run folder and run generation and feedback again"
        )
    texts = responses["text"].take(indices).to_pylist()
    values, lows, highs = (scores[name].to_pylist() for name in ("score", "score_low", "score_high"))
    bounds = zip(lows, highs, strict=True)
    scored = [Scored(*row) for row in zip(ids.to_pylist(), texts, values, bounds, strict=True)]
    owners = pc.index_in(claims["response_id"].combine_chunks(), ids).fill_null(len(ids)).to_numpy()
    claim_starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(ids))[: len(ids)])])
    order = np.argsort(owners, kind="stable")[: claim_starts[-1]]
    return ScoredResponses(
        scored,
        responses["round"].take(indices).combine_chunks(),
        scores["coverage"],
        tables["scores"].starts.tolist(),
        claims.take(pa.array(order)),
        claim_starts,
    )


def with_claims(responses: ScoredResponses, index: int) -> Response:
    """A response with its claims and their verdicts, as Python objects."""
    claims = responses.claims.slice(responses.claim_starts[index], np.diff(responses.claim_starts)[index])
    columns = (claims[name].to_pylist() for name in ("claim", "verdict"))
    return Response(responses.scored[index], [VerifiedClaim(*row) for row in zip(*columns, strict=True)])


def pair_rows(prompts: pa.Table, responses: ScoredResponses, picked: Sequence[tuple[int, Pair]]) -> pa.Table:
    """Rows of `pairs`: messages in TRL's format, the image, and the claims behind the preference.

    picked: (row of `prompts`, pair) with the responses of `responses`.
    """
    index_of = {response.response_id: index for index, response in enumerate(responses.scored)}
    sides = {side: [getattr(pair, side) for _, pair in picked] for side in ("chosen", "rejected")}
    indices = {side: pa.array([index_of[item.response_id] for item in scored]) for side, scored in sides.items()}
    prompts = prompts.take(pa.array([row for row, _ in picked]))
    columns = {
        "prompt_id": prompts["prompt_id"],
        "images": _singletons(prompts["image"].combine_chunks()),
        "prompt": _messages("user", prompts["instruction"].combine_chunks()),
        "round": responses.rounds.take(indices["chosen"]),
        "split": prompts["split"],
    }
    for side, scored in sides.items():
        columns[side] = _messages("assistant", pa.array([response.text for response in scored]))
        columns[f"{side}_response_id"] = pa.array([response.response_id for response in scored])
        columns[f"{side}_score"] = pa.array([response.score for response in scored])
        columns[f"{side}_claims"] = _claims(responses, indices[side], scored)
    ids = zip(columns["chosen_response_id"].to_pylist(), columns["rejected_response_id"].to_pylist(), strict=True)
    columns["pair_id"] = pa.array([make_id(*pair) for pair in ids])
    names = SCHEMAS["pairs"].names
    return pa.table([columns[name] for name in names], names)


def _claims(responses: ScoredResponses, indices: pa.Array, scored: Sequence[Scored]) -> pa.ListArray:
    """The verified claims of each response; of a `Cut` those that belong to its text."""
    claims = responses.claims.select(VERIFIED_COLUMNS).to_struct_array().combine_chunks()
    starts = responses.claim_starts
    if not any(isinstance(item, Cut) for item in scored):
        return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), claims).take(indices)
    kept = [
        [starts[index] + claim for claim in item.claims] if isinstance(item, Cut) else range(*starts[index : index + 2])
        for index, item in zip(indices.to_pylist(), scored, strict=True)
    ]
    ends = np.cumsum([0, *map(len, kept)])
    rows = pa.array([row for rows in kept for row in rows], pa.int64())
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), claims.take(rows))


def _messages(role: str, texts: pa.Array) -> pa.ListArray:
    return _singletons(pa.StructArray.from_arrays([pa.repeat(role, len(texts)), texts], ["role", "content"]))


def _singletons(values: pa.Array) -> pa.ListArray:
    """Each value as a list of length one."""
    return pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), values)
