"""Compares two labelers in one table: their agreement, accuracy and cost.

    python -m evaluation.compare_labelers runs/demo runs/other

Both runs must be labeled from the same responses: copy prompts.parquet and responses.parquet of the first into a new
folder, and run `make feedback` there with another labeler or other settings. The table compares

    verdicts     on the same claims of the same responses
    pair order   of the responses to one prompt that both labelers score, neither of them equally; with unknown claims
                 only where the order is certain
    p_yes        with the truth, where it is known and the claim can be checked; else "-"
    cost         seconds and tokens per claim, from metrics.json; "-" where it was not recorded

Figures: evaluation/agreement.py. Reads one prompt at a time and writes nothing.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.agreement import Agreement, Calibration
from evaluation.truth import TruthLookup, truth_of
from rlaif.command import exit_status
from rlaif.config import Section
from rlaif.errors import InputError
from rlaif.report.figures import format_figure

if TYPE_CHECKING:  # deferred so that --help stays fast
    from rlaif.storage.run import Run

Row = dict[str, Any]
SCORE_COLUMNS = ["prompt_id", "response_id", "score_low", "score_high"]
CLAIM_COLUMNS = ["prompt_id", "response_id", "claim", "p_yes", "verdict", "labeler"]


@dataclass
class Side:
    """One labeler's run."""

    path: Path
    labeler: str = "-"
    claims: int = 0
    unknown: int = 0
    calibration: Calibration = field(default_factory=Calibration)
    cost: dict[str, Any] = field(default_factory=dict)


def compare(first: Path, second: Path, truth_of: TruthLookup = truth_of) -> tuple[Side, Side, Agreement]:
    """Everything that the table shows. Errors: InputError: a table is missing, or the responses differ."""
    from rlaif.storage.run import Run
    from rlaif.storage.tables import read_metadata

    runs = [Run(path, Section(), "compare") for path in (first, second)]
    for table in ("prompts", "responses"):
        if len({read_metadata(run, table)["identity"] for run in runs}) > 1:
            raise InputError(
                f"{first} and {second} have different {table}; copy prompts.parquet and responses.parquet of one run "
                "into a new folder, run make feedback there with the other labeler, and compare these two"
            )
    sides = Side(first), Side(second)
    for side, run in zip(sides, runs, strict=True):
        side.cost = run.metrics().get("labeling", {})
    agreement = Agreement()
    for prompt, rows in _rows_by_prompt(*runs):
        truth = truth_of(prompt["source"], prompt["reference"])
        verdicts: list[dict[tuple[str, str], bool]] = []
        for side, claims in zip(sides, (rows["first"], rows["second"]), strict=True):
            known = [row for row in claims if row["verdict"] is not None]
            verdicts.append({(row["response_id"], row["claim"]): row["verdict"] for row in known})
            for row in claims:
                side.labeler = row["labeler"]
                side.claims += 1
                side.unknown += row["verdict"] is None
                claim_truth = truth.claim_is_true(row["claim"]) if truth else None
                if claim_truth is not None and row["verdict"] is not None:
                    side.calibration.add(row["p_yes"], row["verdict"], claim_truth)
        first_verdicts, second_verdicts = verdicts
        for key in first_verdicts.keys() & second_verdicts.keys():
            agreement.add_verdicts(first_verdicts[key], second_verdicts[key])
        agreement.add_scores(
            *(
                {row["response_id"]: (row["score_low"], row["score_high"]) for row in rows[name]}
                for name in ("first_scores", "second_scores")
            )
        )
    return *sides, agreement


def comparison_table(first: Side, second: Side, agreement: Agreement) -> str:
    """The comparison as text for the terminal."""
    sides = (first, second)
    width = max(14, *(len(text) + 2 for side in sides for text in (str(side.path), side.labeler)))
    calibrations = [side.calibration for side in sides]
    lines = [
        ("run", [str(side.path) for side in sides]),
        ("labeler", [side.labeler for side in sides]),
        ("claims", [f"{side.claims:,}" for side in sides]),
        ("  unknown", [f"{side.unknown:,}" for side in sides]),
        ("  with known truth", [f"{calibration.claims:,}" for calibration in calibrations]),
        ("verdict accuracy", [format_figure("accuracy", calibration.accuracy()) for calibration in calibrations]),
        ("Brier score of p_yes", [_number(calibration.brier()) for calibration in calibrations]),
        ("calibration error of p_yes", [_number(calibration.expected_error()) for calibration in calibrations]),
        ("seconds per claim", [_number(_per_claim(side, "seconds")) for side in sides]),
        ("prompt tokens per claim", [_tokens(side, "prompt_tokens") for side in sides]),
        ("answer tokens per claim", [_tokens(side, "answer_tokens") for side in sides]),
        ("claims of both", [f"{agreement.claims:,}"]),
        ("  equal verdicts", [format_figure("share", agreement.verdict_share())]),
        ("  Cohen's kappa", [_number(agreement.kappa())]),
        ("pairs that both order", [f"{agreement.pairs:,}"]),
        ("  in the same order", [format_figure("share", agreement.pair_share())]),
    ]
    return "\n".join(f"{name:28}" + "".join(f"{cell:>{width}}" for cell in cells) for name, cells in lines)


def _rows_by_prompt(first: "Run[Section]", second: "Run[Section]") -> Iterator[tuple[Row, dict[str, list[Row]]]]:
    from rlaif.storage.join import join_by_prompt
    from rlaif.storage.tables import read_parts

    return join_by_prompt(
        read_parts(first, "prompts", ["prompt_id", "source", "reference"]),
        first=read_parts(first, "claims", CLAIM_COLUMNS),
        second=read_parts(second, "claims", CLAIM_COLUMNS),
        first_scores=read_parts(first, "scores", SCORE_COLUMNS),
        second_scores=read_parts(second, "scores", SCORE_COLUMNS),
    )


def _per_claim(side: Side, name: str) -> float | None:
    return side.cost[name] / side.cost["claims"] if side.cost.get("claims") and side.cost[name] is not None else None


def _tokens(side: Side, name: str) -> str:
    return format_figure("mean_tokens", _per_claim(side, name))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.compare_labelers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="two run folders with different labelers")
    runs = parser.parse_args(argv).runs

    def run() -> None:
        if len(runs) != 2:
            raise InputError(
                f'got {len(runs)} runs, expected two; name them as in RUNS="runs/demo runs/other", or give claims that '
                "people have judged: AUDITS=runs/demo"
            )
        print(comparison_table(*compare(*runs)))

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
