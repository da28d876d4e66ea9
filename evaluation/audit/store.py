"""An audit in a run folder: which claims and pairs people are asked about, and every verdict that they have given.

| file            | content                                                                                    |
|-----------------|--------------------------------------------------------------------------------------------|
| audit.json      | the sample: seed, the claims and pairs in the order in which they are asked, their strata   |
| audits.parquet  | a row for each verdict, rewritten whole and renamed as it is given: a kill loses none       |

The sample is bound to the tables `claims` and `pairs` by their identities and times. A larger one of the same seed
contains it, so an audit can be extended; another one never replaces it.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from evaluation.audit.figures import (
    ANSWERS,
    FALSE,
    FOREIGN,
    TRUE,
    Cell,
    claim_figures,
    pair_figures,
    people_kappa,
    reliability,
    truth_of_answers,
)
from evaluation.audit.sample import Stratum, draw_claims, draw_pairs
from evaluation.statistics import Figures, Intervals
from rlaif.config import Section
from rlaif.errors import InputError
from rlaif.storage.files import lock_until_exit, make_id, read_json, write_json
from rlaif.storage.run import Run
from rlaif.storage.tables import has_table, read_metadata, read_rows
from rlaif.storage.versions import code_version, library_versions
from rlaif.storage.writer import replace_table

Kind = Literal["claim", "pair"]
FIRST, SECOND, EQUAL, CANNOT_TELL = "first", "second", "equal", "cannot tell"
CHOSEN, REJECTED = "chosen", "rejected"
PAIR_ANSWERS = (FIRST, SECOND, EQUAL, CANNOT_TELL)
SAMPLE, TABLE = "audit.json", "audits.parquet"


class StratumRecord(BaseModel, strict=True):
    """A stratum in audit.json. size, mean: its items in the run, and their mean p(yes); items: those in the sample."""

    name: str
    size: int
    mean: float
    items: list[str]


class SampleRecord(BaseModel, strict=True):
    """What audit.json has."""

    sample: str
    seed: int
    count: int
    tables: dict[str, str]
    created: str
    claims: list[str]
    pairs: list[str]
    claim_strata: list[StratumRecord]
    pair_strata: list[StratumRecord]


class AuditError(InputError):
    """An audit of another sample or without one, or a verdict that is not one."""


class Audit:
    """The audit of a run. Threads may share it; one process at a time has it open for verdicts, others may read it."""

    def __init__(self, path: Path, sample: dict[str, Any]) -> None:
        self.path, self.sample = path, sample
        self._lock = threading.Lock()
        self._rows: list[dict[str, Any]] = list(read_verdicts(path))

    @classmethod
    def open(cls, path: Path, count: int, seed: int | None = None) -> "Audit":
        """Begin, go on with, or extend the audit of a run: `count` claims, and as many pairs.

        seed: None: that of the audit that is there, or of the run, or 0.
        Errors: InputError: a file is missing or damaged, or another process has this audit open; AuditError: the folder
        has an audit of another sample.
        """
        run = _run(path)
        tables = _identities(run)
        lock_audit(path)
        earlier = read_sample(path)
        if seed is None:
            seed = int((earlier or read_metadata(run, "claims")["config"]).get("seed", 0))
        sample_id = _sample_id(seed, tables)
        if earlier is not None and earlier["sample"] != sample_id:
            give = f"give SEED={earlier['seed']}, or " if earlier["tables"] == tables else ""
            raise AuditError(
                f"{path} has an audit of another sample (seed {earlier['seed']}, drawn {earlier['created']}), expected "
                f"one of seed {seed} and of the tables that are there now; {give}move {SAMPLE} and {TABLE} to another "
                "folder, where their verdicts are kept, and begin another audit"
            )
        if earlier is not None and earlier["count"] >= count:
            return cls(path, earlier)
        claims = (
            (row["claim_id"], row["p_yes"], row["verdict"])
            for row in read_rows(run, "claims", ["claim_id", "p_yes", "verdict"])
            if row["verdict"] is not None
        )
        columns = ["pair_id", "chosen_score", "rejected_score"]
        margins = [
            (row["pair_id"], (row["chosen_score"] or 0.0) - (row["rejected_score"] or 0.0))
            for row in read_rows(run, "pairs", columns)
        ]
        claim_strata, claim_ids = draw_claims(claims, count, seed)
        pair_strata, pair_ids = draw_pairs(margins, count, seed)
        sample = {
            "sample": sample_id,
            "seed": seed,
            "count": count,
            "tables": tables,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "claims": claim_ids,
            "pairs": pair_ids,
            "claim_strata": [_described(stratum, claim_ids) for stratum in claim_strata],
            "pair_strata": [_described(stratum, pair_ids) for stratum in pair_strata],
        }
        audit = cls(path, sample)  # reads the verdicts: where they are damaged, nothing is written
        write_json(path / SAMPLE, sample)
        return audit

    @classmethod
    def read(cls, path: Path) -> "Audit | None":
        """The audit of a run as it is now, which another process may have open; None where there is none.

        Errors: InputError: a file is damaged; AuditError: the claims or pairs have gone or been written again since, or
        there are verdicts without a sample.
        """
        sample = read_sample(path)
        if sample is None:
            if (path / TABLE).is_file():
                raise AuditError(
                    f"{path} has {TABLE}, but not {SAMPLE}, which says what its verdicts stand for; restore a copy of "
                    f"it, or run `make audit RUN={path}` with the same N and SEED, which draws the same sample"
                )
            return None
        run = _run(path)
        complete = all(has_table(run, name) for name in ("claims", "pairs"))
        if not complete or sample["sample"] != _sample_id(sample["seed"], _identities(run)):
            raise AuditError(
                f"{path} has an audit of other tables (sample drawn {sample['created']}): claims or pairs have "
                f"{'been written again' if complete else 'gone'} since, so its verdicts do not count; to audit other "
                f"ones, move {SAMPLE} and {TABLE} to another folder, where they are kept, and run `make audit "
                f"RUN={path}`"
            )
        return cls(path, sample)

    def provenance(self, table: str) -> dict[str, Any]:
        """The metadata of a table that is made of people's verdicts."""
        return {
            "table": table,
            "stage": "audit",
            "identity": self.sample["sample"],
            "config": {name: self.sample[name] for name in ("seed", "count")},
            "inputs": self.sample["tables"],
            "code_version": code_version(),
            "versions": library_versions(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def record(self, kind: Kind, item: str, answer: str, person: str, seconds: float) -> None:
        """Save a verdict; the last one of a person about an item counts. seconds: from its display to its answer.

        Errors: AuditError: the item is not in the sample, the answer is unknown, or the person has no name.
        """
        allowed = ANSWERS if kind == "claim" else PAIR_ANSWERS
        if answer not in allowed:
            raise AuditError(f"the answer is {answer!r}, expected one of {', '.join(allowed)}; give one of them")
        if item not in self.sample[f"{kind}s"]:
            raise AuditError(f"{kind} {item!r} is not in the sample of this audit; reload the page")
        if not person.strip():
            raise AuditError("the person has no name, expected one that tells people apart; give one")
        row = {
            "sample": self.sample["sample"],
            "kind": kind,
            "item_id": item,
            "answer": answer,
            "person": person.strip(),
            "answered": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "seconds": seconds,
        }
        with self._lock:
            rows = [*self._rows, row]
            replace_table(self, "audits", rows)
            self._rows = rows

    def answers(self, kind: Kind) -> dict[str, dict[str, str]]:
        """The last answer of each person about each item of the sample that has one."""
        items = set(self.sample[f"{kind}s"])  # another process may have extended the sample since it was read
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for row in self._rows:
            if row["kind"] == kind and row["sample"] == self.sample["sample"] and row["item_id"] in items:
                found[row["item_id"]][row["person"]] = row["answer"]
        return dict(found)

    def open_items(self, kind: Kind, person: str) -> list[str]:
        """What a person has not answered yet, in order."""
        answered = self.answers(kind)
        return [item for item in self.sample[f"{kind}s"] if person not in answered.get(item, {})]

    def history(self, person: str) -> dict[tuple[Kind, str], str]:
        """What a person has answered, and how, in the order of the last answers."""
        found: dict[tuple[Kind, str], str] = {}
        for row in self._rows:
            if row["person"] == person and row["sample"] == self.sample["sample"]:
                found.pop((row["kind"], row["item_id"]), None)
                found[row["kind"], row["item_id"]] = row["answer"]
        return found

    def people(self) -> list[str]:
        """Who has answered something, in the order of their first answers."""
        return list(dict.fromkeys(row["person"] for row in self._rows if row["sample"] == self.sample["sample"]))

    def is_chosen_first(self, pair_id: str) -> bool:
        """Whether people see the chosen answer first: by a hash, which a reload does not change."""
        return int(make_id(self.sample["sample"], pair_id), 16) % 2 == 0

    def truths(self) -> dict[str, str | None]:
        """What people say of each claim that they have judged; None where they are divided."""
        return {claim: truth_of_answers(said.values()) for claim, said in self.answers("claim").items()}

    def cells(self) -> list[Cell]:
        """The strata of claims with their answers, in the order of `sample["claim_strata"]`."""
        truths = self.truths()
        cells = []
        for stratum in self.sample["claim_strata"]:
            said = [truths[item] for item in stratum["items"] if item in truths]
            counts = {answer: said.count(answer) for answer in (TRUE, FALSE, FOREIGN)}
            other = len(said) - sum(counts.values())
            sizes = stratum["size"], stratum["mean"], stratum["name"].startswith("accepted")
            cells.append(Cell(*sizes, counts[TRUE], counts[FALSE], other, counts[FOREIGN]))
        return cells

    def figures(self) -> tuple[Figures, Intervals]:
        """What people say of the labeler, for the whole run, and its intervals."""
        seed, cells = int(self.sample["seed"]), self.cells()
        figures, spread = claim_figures(cells, seed)
        claims, pairs = self.answers("claim"), self.answers("pair")
        weights = {
            item: cell.size / max(1, cell.judged)
            for stratum, cell in zip(self.sample["claim_strata"], cells, strict=True)
            for item in stratum["items"]
        }
        figures["people_kappa"] = people_kappa(claims, weights)
        orders = []
        for stratum in self.sample["pair_strata"]:
            said = [self._order(item, pairs[item]) for item in stratum["items"] if item in pairs]
            orders.append((stratum["size"], said.count(CHOSEN), said.count(REJECTED), said.count(EQUAL)))
        pair_shares, pair_spread = pair_figures(orders, seed)
        return figures | pair_shares | {"people": len(self.people())}, spread | pair_spread

    def reliability(self) -> list[dict[str, Any]]:
        """p(yes) as people see it, a row for each stratum; see `evaluation.audit.figures.reliability`."""
        return reliability(self.cells(), int(self.sample["seed"]))

    def _order(self, pair_id: str, said: dict[str, str]) -> str | None:
        """What people prefer, the blind order undone; None where they are divided or cannot tell."""
        answer = truth_of_answers(said.values())
        if answer not in (FIRST, SECOND):
            return answer
        return CHOSEN if (answer == FIRST) == self.is_chosen_first(pair_id) else REJECTED


def lock_audit(path: Path) -> None:
    """Keep other processes out of an audit. Errors: InputError: one has it open."""
    try:
        lock_until_exit(path.resolve() / ".audit.lock")
    except InputError as error:
        raise InputError(
            f"another process has the audit of {path} open, and one at a time may write verdicts; open the address "
            "that it printed, which several people can share, or stop it with Ctrl-C"
        ) from error


def read_sample(path: Path) -> dict[str, Any] | None:
    """The sample of the audit in a run folder, None where there is none. Errors: InputError: the file is damaged."""
    file = path / SAMPLE
    if not file.is_file():
        return None
    try:
        return SampleRecord.model_validate(read_json(file)).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"it has no valid {'.'.join(map(str, first['loc'])) or 'sample'}: {first['msg']}"
    except InputError as error:
        problem = f"it is not valid JSON: {error.__cause__}"
    raise InputError(
        f"{file} is damaged ({problem}); restore a copy of it, or move it to another folder and run "
        f"`make audit RUN={path}` with the same N and SEED, which draws the same sample; keep {TABLE}, which has "
        "people's verdicts"
    )


def read_verdicts(path: Path) -> Iterator[dict[str, Any]]:
    """The verdicts in a run folder, none where there is no audit. Errors: InputError: the table is damaged."""
    run = _run(path)
    if has_table(run, "audits"):
        yield from read_rows(run, "audits")


def _run(path: Path) -> Run[Section]:
    return Run(path, Section(), "audit")


def _identities(run: Run[Section]) -> dict[str, str]:
    """What a sample is bound to: identities, and times, because the same settings may give other claims."""
    origins = {name: read_metadata(run, name) for name in ("claims", "pairs")}
    return {name: f"{origin['identity']} {origin['created']}" for name, origin in origins.items()}


def _sample_id(seed: int, tables: Mapping[str, str]) -> str:
    return make_id(str(seed), tables["claims"], tables["pairs"])


def _described(stratum: Stratum, drawn: Sequence[str]) -> dict[str, Any]:
    items = set(stratum.drawn(stratum.most)) & set(drawn)
    return {"name": stratum.name, "size": stratum.size, "mean": stratum.mean, "items": sorted(items)}
