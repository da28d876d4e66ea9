"""The tables of a search."""

from pathlib import Path

from edge.settings import Settings
from edge.tuning.halving import Candidate, Outcome
from edge.tuning.process import Work
from edge.tuning.report import describe, final_table, trials_table
from edge.tuning.stage import verdict
from edge.tuning.statistics import Comparison, Estimate

WORK = Work(Path("model.gguf"), 100, 11)
FOUND = Settings(threads=2, build="host")


def test_settings_in_a_line() -> None:
    assert describe(Settings()) == "default"
    assert describe(FOUND) == "threads=2 batch=2048 ubatch=512 flash_attention=auto kv_type=f16 repack=True build=host"


def test_the_best_and_the_failed_are_shown() -> None:
    """111 tokens in 0.5 s."""
    good = [Candidate(FOUND, [0.5, 0.5, 0.6], 2)] * 12
    lines = trials_table([*good, Candidate(Settings(threads=64), error="no result after 9 s")], WORK).splitlines()
    assert lines[2] == f"| {describe(FOUND)} | 3 times | 222.0 |"
    assert lines[12] == "| 2 more | | |"
    assert lines[13].endswith("| no result after 9 s | - |") and len(lines) == 14


def test_default_and_winner_are_beside_each_other() -> None:
    """100 tokens in 0.5 s and in 0.25 s; 10 after the first in 1 s."""
    comparison = Comparison([Outcome([0.5], [1.0])] * 8, [Outcome([0.25], [1.0])] * 8, Estimate(1.2, 1.1, 1.3))
    lines = final_table(comparison, FOUND, WORK).splitlines()
    assert lines[2] == "| default | 200 (200-200) | 10.0 (10.0-10.0) | 1.50 (1.50-1.50) |"
    assert lines[3].startswith("| found: threads=2") and lines[3].endswith(
        "| 400 (400-400) | 10.0 (10.0-10.0) | 1.25 (1.25-1.25) |"
    )


def test_a_winner_within_the_noise_is_no_better() -> None:
    assert verdict(Estimate(1.02, 0.99, 1.05), FOUND).startswith("no better than the default: 1.02 (0.99-1.05) times")
    assert verdict(Estimate(1.5, 1.4, 1.6), FOUND).startswith(
        "1.50 (1.40-1.60) times as fast as the default with threads=2"
    )
