"""What people are asked about, read once from the tables of a run. Nothing here comes from the labeler but the claims.

Verdicts, probabilities and scores are not read, so no page can show them; a claim is marked in its response by its
words alone, and always alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from browser.marks import pieces, place
from browser.pages import text_of
from browser.tables import Row, Snapshot
from evaluation.audit.store import Audit
from rlaif.errors import InputError


@dataclass(frozen=True)
class Claim:
    """A claim in its response. pieces: the text of the response, in parts that are marked or not."""

    prompt_id: str
    instruction: str
    claim: str
    pieces: tuple[tuple[str, bool], ...]
    pictures: int = 1

    @property
    def is_placed(self) -> bool:
        return any(marked for _, marked in self.pieces)


@dataclass(frozen=True)
class Pair:
    """Two answers in the blind order. pictures: how many the prompt has."""

    prompt_id: str
    instruction: str
    answers: tuple[str, str]
    pictures: int


Item = Claim | Pair


def read_items(snapshot: Snapshot, audit: Audit) -> dict[tuple[str, str], Item]:
    """The items of the sample by kind and id. Errors: InputError: a table lacks one of them."""
    claims = snapshot.rows(
        "SELECT claim_id, claims.prompt_id AS prompt_id, claim, text, instruction FROM run.claims AS claims "
        "JOIN run.responses AS responses ON responses.response_id = claims.response_id "
        "JOIN run.prompts_index AS prompts ON prompts.prompt_id = claims.prompt_id "
        "WHERE claim_id IN (SELECT unnest(?))",
        [audit.sample["claims"]],
    )
    pairs = snapshot.rows(
        "SELECT pair_id, prompt_id, prompt, chosen, rejected, len(images) AS pictures FROM run.pairs "
        "WHERE pair_id IN (SELECT unnest(?))",
        [audit.sample["pairs"]],
    )
    found: dict[tuple[str, str], Item] = {("claim", row["claim_id"]): _claim(row) for row in claims}
    found |= {("pair", row["pair_id"]): _pair(row, audit.is_chosen_first(row["pair_id"])) for row in pairs}
    for kind in ("claim", "pair"):
        if missing := [item for item in audit.sample[f"{kind}s"] if (kind, item) not in found]:
            raise InputError(
                f"{audit.path} has no response or prompt of {len(missing)} sampled {kind}s, such as {missing[0]!r}; "
                f"restore its tables, or write them again with `make generate feedback RUN={audit.path}`"
            )
    return found


def _claim(row: Row) -> Claim:
    marked = pieces(row["text"], place(row["text"], [row["claim"]]))
    shown = tuple((piece.text, bool(piece.claims)) for piece in marked)
    return Claim(row["prompt_id"], row["instruction"], row["claim"], shown)


def _pair(row: Row, chosen_first: bool) -> Pair:
    sides: Sequence[str] = ("chosen", "rejected") if chosen_first else ("rejected", "chosen")
    first, second = (text_of(row[side]) for side in sides)
    return Pair(row["prompt_id"], text_of(row["prompt"]), (first, second), row["pictures"] or 0)
