"""The pairs with the smallest and with the largest margins, as small cards: there, wrong pairs show first."""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rlaif.config import Config
from rlaif.report.pairs import address, chip, data_uri
from rlaif.report.sections import signed
from rlaif.storage.rows import read_located_parts, read_rows_at, row_locations
from rlaif.storage.run import Run
from rlaif.storage.tables import has_table

SHOWN = 8  # cards of each end
SIDE, QUALITY = 192, 78  # of a picture: pixels of its longer side, and of WebP
LENGTH = 110  # characters of an answer
COLUMNS = ("pair_id", "prompt_id", "images", "chosen", "rejected", "chosen_claims", "rejected_claims")
Row = dict[str, Any]


def gallery(run: Run[Config]) -> dict[str, list[Row]] | None:
    """Cards of both ends, the outermost first; None before `make feedback`, and where no pair has scores.

    Pairs of equal margin come in an order that is drawn with the seed of the run, and a prompt has one card at each
    end, so that the cards show different pictures. Only the row groups of these pairs are read with their pictures.
    """
    if not has_table(run, "pairs"):
        return None
    pairs = _by_margin(run)
    if not pairs.num_rows:
        return None
    of_each = min(SHOWN, (pairs.num_rows + 1) // 2)
    forwards = range(pairs.num_rows)
    ends = {"smallest": _outermost(pairs, forwards, of_each), "largest": _outermost(pairs, forwards[::-1], of_each)}
    contents = _contents(run, [row for rows in ends.values() for row in rows])
    return {end: [_card(row | contents[row["pair_id"]]) for row in rows] for end, rows in ends.items()}


def _by_margin(run: Run[Config]) -> pa.Table:
    """The id, prompt, location and margin of every pair with scores, the smallest margin first."""
    scores = ["chosen_score", "rejected_score"]
    pairs = pa.concat_tables(read_located_parts(run, "pairs", ["pair_id", "prompt_id", *scores]))
    pairs = pairs.append_column("margin", pc.subtract(*(pairs[score] for score in scores))).drop_columns(scores)
    pairs = pairs.filter(pc.is_valid(pairs["margin"]))
    drawn = np.random.default_rng(run.config.seed).permutation(pairs.num_rows)
    return pairs.take(drawn[np.argsort(pairs["margin"].to_numpy()[drawn], kind="stable")])


def _outermost(pairs: pa.Table, order: Iterable[int], count: int) -> list[Row]:
    """The first `count` pairs in this order, at most one of a prompt."""
    first: dict[str, Row] = {}
    for index in order:
        if len(first) == count:
            break
        (row,) = pairs.slice(index, 1).to_pylist()
        first.setdefault(row["prompt_id"], row)
    return list(first.values())


def _contents(run: Run[Config], rows: Sequence[Row]) -> dict[str, Row]:
    """pair_id -> what a card shows of the row, which may be on both ends."""
    distinct = {(row["group"], row["row"]): row for row in rows}
    locations = row_locations(row for _, row in sorted(distinct.items()))
    return {row["pair_id"]: row for row in read_rows_at(run.path / "pairs.parquet", locations, COLUMNS)}


def _card(row: Row) -> Row:
    texts = ["\n".join(message["content"] for message in row[side]) for side in ("chosen", "rejected")]
    return {
        "address": address(row["prompt_id"]),
        "margin": signed(row["margin"], None),
        "picture": data_uri(row["images"][0]["bytes"], SIDE, QUALITY) if row["images"] else None,
        "sides": list(zip(("chosen", "rejected"), first_words(*texts), strict=True)),
        "claim": _rejected_claim(row),
    }


def _rejected_claim(row: Row) -> Row | None:
    """The claim that the labeler rejects with most certainty, of the rejected answer if it has one."""
    for side in ("rejected", "chosen"):
        if claims := [chip(claim) for claim in row[f"{side}_claims"] if claim["verdict"] is False]:
            return max(claims, key=lambda claim: float(claim["sure"])) | {"side": side}
    return None


def first_words(*texts: str) -> list[str]:
    """The beginning of each text, without the words with which all of them begin."""
    spaced = [" ".join(text.split()) for text in texts]
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*spaced, strict=False))
    shared = "".join(letters[0] for letters in same).rpartition(" ")[0]
    skipped = len(shared) + 1 if len(shared) > LENGTH // 4 else 0
    return [_cut(text[skipped:], "\N{HORIZONTAL ELLIPSIS} " if skipped else "") for text in spaced]


def _cut(text: str, before: str) -> str:
    """`text` of at most LENGTH characters, cut after a word where it has words of that length."""
    if len(text) <= LENGTH:
        return before + text
    words = text[:LENGTH].rpartition(" ")[0]
    return f"{before}{words if len(words) > LENGTH // 2 else text[:LENGTH]} \N{HORIZONTAL ELLIPSIS}"
