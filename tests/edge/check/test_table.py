"""Rows from hand-made comparisons, and their text and JSON."""

from collections import Counter

import pytest

from edge.check.distance import Comparison
from edge.check.table import make_row, rows_table
from evaluation.hallucination import mention_counts
from evaluation.statistics import Counts

PROMISED = (
    "export", "pictures", "same_answers", "kl_mean", "kl_max", "feature_error",
    "bytes", "peak_bytes", "tokens_per_second", "mention_rate", "recall",
)  # fmt: skip
COMPARISONS = [
    Comparison(True, [0.0, 0.002], 0.01),
    Comparison(False, [0.004], 0.03),
    Comparison(True, [0.0], 0.02),
]
# 4 mentions, 1 false; 2 of 4 objects
ANSWERS = [
    mention_counts("a dog", [True], 1, 1),
    mention_counts("a dog and a cat", [True, False], 1, 2),
    mention_counts("a dog", [True], 0, 1),
]


def row(answers: list[Counts] = ANSWERS, **changes: object):  # type: ignore[no-untyped-def]
    values = {"bytes": 3_000_000, "peak_bytes": 50_000_000, "seconds": 2.0, "generated": 500, "seed": 0, **changes}
    return make_row("q4_k_m", COMPARISONS, answers, **values)  # type: ignore[arg-type]


def test_figures_are_those_of_the_pictures() -> None:
    made = row()
    assert (made.pictures, made.same_answers) == (3, 2)
    assert made.kl_mean == pytest.approx(0.006 / 4) and made.kl_max == 0.004  # a mean over tokens, not over pictures
    assert made.feature_error == pytest.approx(0.02)
    assert made.tokens_per_second == 250.0
    assert (made.mention_rate, made.recall) == (0.25, 0.5)
    for name, value in (("mention_rate", 0.25), ("recall", 0.5)):
        low, high = made.intervals[name] or (1.0, 0.0)
        assert low <= value <= high and low < high


def test_what_is_not_known_is_none_and_never_zero() -> None:
    made = make_row("mmproj", [Comparison(True, None, None)], [Counter()], 1, 1, 0.0, 0, 0)
    unknown = (made.kl_mean, made.kl_max, made.feature_error, made.tokens_per_second, made.mention_rate, made.recall)
    assert unknown == (None,) * 6
    assert cells(rows_table([made]), 2) == ["mmproj", "1/1", "-", "-", "-", "0.00", "0", "-", "-", "-"]


def test_the_entry_of_check_json_has_what_is_promised() -> None:
    entry = row(remark="in the emulator").to_json({"policy": "runs/demo/policy"})
    assert set(PROMISED) <= set(entry)
    assert entry["policy"] == "runs/demo/policy" and entry["remark"] == "in the emulator"
    assert list(entry["intervals"]) == ["mention_rate", "recall"]


def cells(table: str, line: int) -> list[str]:
    return [cell.strip() for cell in table.splitlines()[line].split("|")[1:-1]]


def test_the_table_shows_figures_intervals_and_remarks() -> None:
    table = rows_table([row(), row(remark="in the emulator")])
    assert cells(table, 0) == [
        "export", "same answers", "KL mean", "KL max", "features", "MB", "peak MB", "tokens/s",
        "mention_rate", "recall",
    ]  # fmt: skip
    shown = cells(table, 2)
    assert shown[:8] == ["q4_k_m", "2/3", "1.5e-03", "4.0e-03", "2.0e-02", "3.00", "50", "250"]
    assert shown[8].startswith("25.0% [") and shown[9].startswith("50.0% [")
    lines = table.splitlines()
    assert lines[-1] == "q4_k_m: in the emulator"
    assert len({len(line) for line in lines[:4]}) == 1  # columns are aligned
    assert set(lines[1]) == {"|", "-"}  # what makes it a table in Markdown
