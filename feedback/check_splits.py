"""Check splits that a labeler made, without a model: what would be asked, restated or unknown?

    python -m feedback.check_splits splits.jsonl [--config configs/demo.yaml]

Reads one JSON object a line: `instruction`, `response` and `claims`, a list of `{"claim": ..., "question": ...}`.
Prints one JSON object for each claim: `case` (its line in the file), `claim`, `question`, `outcome` and `reason`, as
feedback/check/claim.py and feedback/divide.py have them, and a last one with the totals; `responses_lost` counts the
responses none of whose claims can be verified. `unclear` marks a claim about which the stage would ask the labeler with
`feedback.check: labeler`; words alone leave it unknown. Nothing is requested again, as there is no model.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from feedback.check.claim import Source
from feedback.divide import Draft, find, refuse
from rlaif.command import exit_status
from rlaif.errors import InputError
from rlaif.records.json_rows import read_json_rows
from rlaif.text import clean

Row = dict[str, Any]
TOTALS = ("claims", "asked", "restated", "unknown", "responses", "responses_lost")
FORM = '{"instruction": TEXT, "response": TEXT, "claims": [{"claim": TEXT, "question": TEXT}, ...]}'


def check_file(path: Path, verify: str = "question") -> Iterator[Row]:
    """One row for each claim of the file, then the totals. verify: as `feedback.verify`.

    Errors: InputError for a missing file, and for a line that is not JSON or has other fields.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; give a file of JSON lines, each {FORM}")
    totals: Counter[str] = Counter(dict.fromkeys(TOTALS, 0))
    for line, row in read_json_rows(path):
        source, drafts = _read(row, f"{path}, line {line}")
        refusal = refuse(source, drafts)
        outcomes: Counter[str] = Counter()
        for draft in drafts:
            finding = find(draft, source, verify)
            outcome, reason = ("unknown", refusal.reason) if refusal else (finding.outcome, finding.reason)
            outcomes[outcome] += 1
            yield {
                "case": line,
                "claim": draft.claim,
                "question": draft.question,
                "outcome": outcome,
                "reason": reason,
                "unclear": finding.claim == "unclear",
            }
        totals.update(outcomes, responses=1, claims=len(drafts), responses_lost=outcomes["unknown"] == len(drafts))
    yield dict(totals)


def _read(row: object, where: str) -> tuple[Source, list[Draft]]:
    shown = json.dumps(row, ensure_ascii=False, default=str)[:200]
    if not isinstance(row, dict) or not {"instruction", "response", "claims"} <= row.keys():
        raise InputError(f"{where} has {shown}; expected {FORM}")
    claims = row["claims"]
    if not isinstance(claims, list) or not all(isinstance(item, dict) for item in claims):
        raise InputError(f"{where} has claims that are not a list of objects: {shown}; expected {FORM}")
    texts = [row["instruction"], row["response"], *(item.get(key) for item in claims for key in ("claim", "question"))]
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where} has a field that is missing or not text: {shown}; expected {FORM}")
    drafts = [Draft(clean(item["claim"]), clean(item["question"])) for item in claims]
    return Source(clean(row["instruction"]), clean(row["response"])), drafts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 2, after one line on stderr, for an error that the user can fix."""
    parser = argparse.ArgumentParser(prog="python -m feedback.check_splits", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", metavar="FILE", type=Path, help="JSON lines: instruction, response, claims")
    parser.add_argument("--config", metavar="FILE", help="YAML configuration whose section `feedback` is followed")
    args = parser.parse_args(argv)

    def run() -> None:
        verify = "question"
        if args.config:
            from rlaif.config.load import load_config

            verify = load_config(args.config).feedback.verify
        for row in check_file(args.file, verify):
            print(json.dumps(row, ensure_ascii=False))

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
