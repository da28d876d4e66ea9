"""Writes the audited claims of a run as a test set for labelers, one file with its pictures that needs no run folder.

    python -m evaluation.audit.export --run runs/demo

RUN/audited_claims.parquet has the claims whose truth people agree on. A claim stands for `weight` claims of the run, so
a mean with these weights is one of the run. People's names are not in it. `make compare-labelers AUDITS=RUN` reads it.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaif.command import exit_status
from rlaif.errors import InputError

if TYPE_CHECKING:  # deferred so that --help stays fast
    from evaluation.audit.store import Audit

TABLE = "audited_claims"
PROMPT_COLUMNS = ["prompt_id", "image", "instruction"]
CLAIM_COLUMNS = ["claim_id", "prompt_id", "claim", "question", "outcome"]
CLAIM_COLUMNS += ["p_yes", "p_no", "verdict", "labeler", "labeler_revision"]


def export(path: Path) -> int:
    """Write the table, instead of an earlier one; returns its number of rows.

    Errors: InputError: there is no audit, a table is missing or damaged, or no claim has a truth.
    """
    from evaluation.audit.store import Audit
    from rlaif.storage.writer import replace_table

    audit = Audit.read(path)
    truths = audit.truths() if audit else {}
    kept = {claim: truth == "true" for claim, truth in truths.items() if truth in ("true", "false")}
    if audit is None or not kept:
        raise InputError(f"{path} has no audited claim that people agree on; first run `make audit RUN={path}`")
    replace_table(audit, TABLE, audited_rows(audit, kept))
    left = Counter(truth or "divided" for claim, truth in truths.items() if claim not in kept)
    print(f"export-audit: {path}")
    print(f"  wrote    {path / TABLE}.parquet ({len(kept):,} rows)")
    print(f"  left out {', '.join(f'{count:,} {answer}' for answer, count in left.items()) or 'none'}")
    print(f"  next     make compare-labelers AUDITS={path}, with the CONFIG and SET of another labeler")
    return len(kept)


def audited_rows(audit: "Audit", truths: dict[str, bool]) -> Iterator[dict[str, Any]]:
    """Rows of the table, in the order of `claims`; truths: by claim_id."""
    from rlaif.config import Section
    from rlaif.storage.run import Run
    from rlaif.storage.tables import read_rows

    run, answers = Run(audit.path, Section(), "audit"), audit.answers("claim")
    claims = list(read_rows(run, "claims", CLAIM_COLUMNS, filter={"claim_id": list(truths)}))
    wanted = {"prompt_id": list({row["prompt_id"] for row in claims})}
    prompts = {row["prompt_id"]: row for row in read_rows(run, "prompts", PROMPT_COLUMNS, filter=wanted)}
    strata = {item: stratum for stratum in audit.sample["claim_strata"] for item in stratum["items"]}
    sizes = Counter(strata[claim]["name"] for claim in truths)
    for row in claims:
        stratum, said = strata[row["claim_id"]], list(answers[row["claim_id"]].values())
        truth = truths[row["claim_id"]]
        yield {
            **row,
            **prompts[row["prompt_id"]],
            "truth": truth,
            "people": len(said),
            "agreeing": said.count("true" if truth else "false"),
            "stratum": stratum["name"],
            "weight": stratum["size"] / sizes[stratum["name"]],
        }


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 2 after an error that the user can fix."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.audit.export", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--run", required=True, type=Path, metavar="FOLDER", help="run folder, such as runs/demo")
    arguments = parser.parse_args(argv)
    return exit_status(lambda: export(arguments.run))


if __name__ == "__main__":
    sys.exit(main())
