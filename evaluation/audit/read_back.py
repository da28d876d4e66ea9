"""Another labeler verifies audited claims; its agreement with people stands beside that of the labeler of the run.

    python -m evaluation.audit.read_back --audits runs/demo --config configs/endpoint.yaml

`--audits` names the folder with audited_claims.parquet, see evaluation/audit/export.py. The labeler of the
configuration gets what that of the run got, the question of a claim or the claim itself, in its own prompts and words.
Figures are over the claims that it has a verdict on, weighted to stand for the run. One pass; nothing is written.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.audit.export import TABLE
from evaluation.audit.two_labelers import SIDES, compare, count_strata
from rlaif.command import exit_status
from rlaif.config import Config
from rlaif.config.load import load_config
from rlaif.errors import InputError
from rlaif.report.figures import format_with_interval

if TYPE_CHECKING:  # deferred so that --help stays fast
    from feedback.verify import Verdict
    from rlaif.inference.engine import OpenEngine

Row = dict[str, Any]


def read_claims(path: Path) -> list[Row]:
    """The rows of audited_claims.parquet; path: the file, or its folder. Errors: InputError: there are none."""
    from rlaif.config import Section
    from rlaif.storage.run import Run
    from rlaif.storage.tables import read_rows

    folder = path.parent if path.name == f"{TABLE}.parquet" else path
    rows = list(read_rows(Run(folder, Section(), "compare"), TABLE))
    if not rows:
        raise InputError(
            f"{folder / TABLE}.parquet has no claims, expected at least one; run `make export-audit` again"
        )
    return rows


def verify_claims(rows: Sequence[Row], config: Config, open_engine: "OpenEngine") -> tuple[str, dict[str, "Verdict"]]:
    """The labeler's name, and its verdicts by claim_id, without the claims that it cannot take."""
    from feedback.labeler_prompts import read_prompts
    from feedback.verify import verify
    from rlaif.inference.first_answers import open_checked
    from rlaif.inference.revision import pin_model

    settings, wording = config.feedback, read_prompts(config.feedback.prompts)
    by_question = settings.verify == "question"
    requests = {
        row["claim_id"]: (
            row["prompt_id"],
            wording.format_verify(row["question"])
            if by_question and row["outcome"] == "asked"
            else wording.format_statement(row["claim"]),
        )
        for row in rows
    }
    images = {row["prompt_id"]: row["image"]["bytes"] for row in rows}
    section, _ = pin_model(config.labeler)
    opened = open_checked(open_engine, "labeler", settings.min_yes_no_mass, section, config.engine, config.seed)
    with closing(opened) as engine:
        verdicts = engine.run(verify(engine, requests.values(), images, settings.answers))
    return section.model, {claim: verdicts[request] for claim, request in requests.items() if request in verdicts}


def comparison_table(rows: Sequence[Row], name: str, verdicts: Mapping[str, "Verdict"], seed: int) -> str:
    """The labeler of the run beside the other one, as text for the terminal. Errors: InputError: it has no verdict."""
    if not verdicts:
        raise InputError(f"{name} has no verdict on any of {len(rows):,} claims; use another labeler")
    accepted = {claim: verdict.accepted for claim, verdict in verdicts.items()}
    figures, spread = compare(
        count_strata(
            (row["stratum"], row["weight"], row["truth"], row["verdict"], accepted.get(row["claim_id"])) for row in rows
        ),
        seed,
    )
    both = [row for row in rows if row["claim_id"] in accepted]
    differing = [row for row in both if row["verdict"] != accepted[row["claim_id"]]]
    first_right = sum(row["verdict"] == row["truth"] for row in differing)
    p_yes = [{row["claim_id"]: row["p_yes"] for row in both}, {claim: item.p_yes for claim, item in verdicts.items()}]

    def cells(figure: str) -> list[str]:
        keys = [f"{side} {figure}" for side in SIDES]
        return [format_with_interval(figure, figures[key], spread[key]) for key in keys]

    lines = [
        ("labeler", [both[0]["labeler"], name]),
        ("claims", [f"{len(rows):,}"] * 2),
        ("  without a verdict", ["0", f"{len(rows) - len(both):,}"]),
        ("agreement with people", cells("agreement")),
        ("  Cohen's kappa", cells("kappa")),
        ("  false claims accepted", cells("false_claims_accepted")),
        ("  true claims rejected", cells("true_claims_rejected")),
        ("Brier score of p_yes", [f"{brier(both, values):.4f}" for values in p_yes]),
        ("right where the two differ", [f"{first_right:,}", f"{len(differing) - first_right:,}"]),
        ("change of agreement, points", ["", format_with_interval("change", figures["change"], spread["change"])]),
    ]
    width = max(24, *(len(cell) + 2 for cell in lines[0][1]))
    table = ["".join([f"{title:28}", *(f"{cell:>{width}}" for cell in row)]).rstrip() for title, row in lines]
    return "\n".join([*table, "in brackets: 95% intervals; all but the counts is weighted to stand for the whole run"])


def brier(rows: Sequence[Row], p_yes: Mapping[str, float]) -> float:
    """The weighted mean squared distance of p(yes), by claim_id, from what people say (1 or 0)."""
    squares = sum(row["weight"] * (p_yes[row["claim_id"]] - row["truth"]) ** 2 for row in rows)
    return float(squares / sum(row["weight"] for row in rows))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 2 after an error that the user can fix."""
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m evaluation.audit.read_back", description=summary)
    parser.add_argument("--audits", required=True, type=Path, metavar="FOLDER", help=f"folder with {TABLE}.parquet")
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML configuration with the other labeler")
    parser.add_argument(
        "--set", dest="overrides", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="changes to it"
    )
    arguments = parser.parse_args(argv)

    def run() -> None:
        config, rows = load_config(arguments.config, arguments.overrides), read_claims(arguments.audits)
        from rlaif.inference.open import open_engine

        name, verdicts = verify_claims(rows, config, open_engine)
        print(comparison_table(rows, name, verdicts, config.seed))

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
