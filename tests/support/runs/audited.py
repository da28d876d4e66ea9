"""An audit that is answered by the truth of the scenes, what its figures must contain, and its command."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evaluation.audit.figures import FALSE, TRUE, UNCLEAR
from evaluation.audit.store import EQUAL, FIRST, SECOND, Audit, Kind
from evaluation.statistics import Figures, Intervals
from evaluation.truth import truth_of
from rlaif.config import Config
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from tests.support import ROOT

REPORTED = {"agreement": "claim_accuracy", "pair_agreement": "pair_agreement", "pair_ties": "pair_ties"}


def answers_by_truth(audit: Audit, run: Run[Config], person: str) -> Iterator[tuple[Kind, str, str]]:
    """Kind, item and answer of everything that a person has not answered yet."""
    truths = {row["prompt_id"]: truth_of(row["source"], row["reference"]) for row in read_rows(run, "prompts")}
    claims = {row["claim_id"]: row for row in read_rows(run, "claims", ["claim_id", "prompt_id", "claim"])}
    pairs = {row["pair_id"]: row for row in read_rows(run, "pairs", ["pair_id", "prompt_id", "chosen", "rejected"])}
    for claim_id in audit.open_items("claim", person):
        row = claims[claim_id]
        truth = truths[row["prompt_id"]]
        assert truth is not None
        yield (
            "claim",
            claim_id,
            {True: TRUE, False: FALSE, None: UNCLEAR}[truth.claim_is_true(row["claim"])],
        )
    for pair_id in audit.open_items("pair", person):
        pair = pairs[pair_id]
        truth = truths[pair["prompt_id"]]
        assert truth is not None
        chosen, rejected = (
            truth.check_mentions(pair[side][0]["content"]).count(False) for side in ("chosen", "rejected")
        )
        if chosen == rejected:
            yield "pair", pair_id, EQUAL
        else:
            yield "pair", pair_id, FIRST if (chosen < rejected) == audit.is_chosen_first(pair_id) else SECOND


def assert_contains(intervals: Intervals, expected: Figures) -> None:
    """The intervals of an audit contain what `make evaluate` reports of the labeler, and are not too wide to say so."""
    for name, reported in REPORTED.items():
        low, high = intervals[name] or []
        value = expected[reported]
        assert value is not None and low <= value <= high, (name, value, low, high)
        assert high - low < 0.35


@contextmanager
def auditing(run: Path, port: int) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command as a process, and the address that it printed."""
    command = [sys.executable, "-m", "browser.audit", "--run", str(run), "--count", "20", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        match = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", lines[-1])
        assert match is not None, lines
        yield process, match[0]
    finally:
        process.kill()
        process.communicate()
