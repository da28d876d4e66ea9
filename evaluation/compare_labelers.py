"""Two labelers side by side, in one table: what they cost, how right they are, how far they agree.

    python -m evaluation.compare_labelers runs/demo runs/other

Both runs must have been labelled from the same responses: copy prompts.parquet and responses.parquet of the first into
a new folder, and run `make feedback` there with another labeler or other settings. Compared are

    verdicts     on claims of the same response with the same text, which both made
    pair order   of the responses to one prompt that both scored, and neither equally
    p_yes        against the truth, where `reference` of prompts knows it and the claim can be read; else "-"
    cost         seconds and tokens for each claim labelled, from metrics.json; "-" for runs of before it was noted

Figures: evaluation/agreement.py. Reads one prompt at a time and writes nothing.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.agreement import Agreement, Calibration
from evaluation.hallucination import claim_truth
from rlaif.config import Section
from rlaif.errors import InputError, RlaifError
from rlaif.report.figures import format_figure
from rlaif.storage.join import join_by_prompt
from rlaif.storage.run import Run
from rlaif.storage.tables import Row, read_metadata, read_parts

CLAIM_COLUMNS = ["prompt_id", "response_id", "claim", "p_yes", "verdict", "labeler"]


@dataclass
class Side:
    """One labeler's run."""

    path: Path
    labeler: str = "-"
    claims: int = 0
    calibration: Calibration = field(default_factory=Calibration)
    cost: dict[str, Any] = field(default_factory=dict)


def compare(first: Path, second: Path) -> tuple[Side, Side, Agreement]:
    """Everything that the table shows. Errors: InputError for a missing table, or responses that are not the same."""
    runs = [Run(path, Section(), "compare") for path in (first, second)]
    for table in ("prompts", "responses"):
        if len({read_metadata(run, table)["identity"] for run in runs}) > 1:
            raise InputError(
                f"{first} and {second} have different {table}; copy prompts.parquet and responses.parquet of the one "
                "into a new folder, make feedback there by the other labeler, and compare these two"
            )
    sides = Side(first), Side(second)
    for side, run in zip(sides, runs, strict=True):
        side.cost = run.metrics().get("labeling", {})
    agreement = Agreement()
    for prompt, rows in _by_prompt(*runs):
        objects = prompt["reference"] and json.loads(prompt["reference"])["objects"]
        verdicts: list[dict[tuple[str, str], bool]] = []
        for side, claims in zip(sides, (rows["first"], rows["second"]), strict=True):
            verdicts.append({(row["response_id"], row["claim"]): row["verdict"] for row in claims})
            for row in claims:
                side.labeler = row["labeler"]
                side.claims += 1
                truth = claim_truth(row["claim"], objects) if objects is not None else None
                if truth is not None:
                    side.calibration.add(row["p_yes"], row["verdict"], truth)
        mine, theirs = verdicts
        for key in mine.keys() & theirs.keys():
            agreement.add_verdicts(mine[key], theirs[key])
        agreement.add_scores(
            *({row["response_id"]: row["score"] for row in rows[name]} for name in ("first_scores", "second_scores"))
        )
    return *sides, agreement


def table(first: Side, second: Side, agreement: Agreement) -> str:
    """The one table, for the terminal."""
    sides = (first, second)
    width = max(14, *(len(text) + 2 for side in sides for text in (str(side.path), side.labeler)))
    calibrations = [side.calibration for side in sides]
    lines = [
        ("run", [str(side.path) for side in sides]),
        ("labeler", [side.labeler for side in sides]),
        ("claims", [f"{side.claims:,}" for side in sides]),
        ("  with known truth", [f"{item.claims:,}" for item in calibrations]),
        ("verdicts right", [format_figure("accuracy", item.accuracy()) for item in calibrations]),
        ("Brier score of p_yes", [_number(item.brier()) for item in calibrations]),
        ("calibration error of p_yes", [_number(item.expected_error()) for item in calibrations]),
        ("seconds a claim", [_number(_per_claim(side, "seconds")) for side in sides]),
        ("prompt tokens a claim", [format_figure("mean_tokens", _per_claim(side, "prompt_tokens")) for side in sides]),
        ("answer tokens a claim", [format_figure("mean_tokens", _per_claim(side, "answer_tokens")) for side in sides]),
        ("claims that both made", [f"{agreement.claims:,}"]),
        ("  equal verdicts", [format_figure("share", agreement.share())]),
        ("  Cohen's kappa", [_number(agreement.kappa())]),
        ("pairs that both order", [f"{agreement.pairs:,}"]),
        ("  ordered alike", [format_figure("share", agreement.pairs_share())]),
    ]
    return "\n".join(f"{name:28}" + "".join(f"{cell:>{width}}" for cell in cells) for name, cells in lines)


def _by_prompt(first: Run[Section], second: Run[Section]) -> Iterator[tuple[Row, dict[str, list[Row]]]]:
    return join_by_prompt(
        read_parts(first, "prompts", ["prompt_id", "reference"]),
        first=read_parts(first, "claims", CLAIM_COLUMNS),
        second=read_parts(second, "claims", CLAIM_COLUMNS),
        first_scores=read_parts(first, "scores", ["prompt_id", "response_id", "score"]),
        second_scores=read_parts(second, "scores", ["prompt_id", "response_id", "score"]),
    )


def _per_claim(side: Side, name: str) -> float | None:
    return side.cost[name] / side.cost["claims"] if side.cost.get("claims") else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.compare_labelers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="two run folders, labelled differently")
    runs = parser.parse_args(argv).runs
    try:
        if len(runs) != 2:
            raise InputError(f'got {len(runs)} runs; two are compared, as by RUNS="runs/demo runs/other"')
        print(table(*compare(*runs)))
    except RlaifError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
