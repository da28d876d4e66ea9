"""Successive halving on known speeds."""

import random

import pytest

from edge.settings import Settings
from edge.tuning.halving import Candidate, Outcome, exhaustive, search, survivors
from edge.tuning.space import space
from rlaif.config.tune import TuneSection

SPACE = space(TuneSection(), 2, ["host", "portable"])


def true_seconds(settings: Settings) -> float:
    """A machine on which each setting matters, with one best configuration: 1 s."""
    seconds = 1.0 + 0.8 * (settings.threads == 1) + 0.5 * (settings.build == "portable") + 0.1 * (not settings.repack)
    seconds += {512: 0.0, 128: 0.05, 32: 0.3}[settings.ubatch] + 0.03 * (settings.batch == 256)
    return seconds + {"on f16": 0.0, "on q8_0": 0.06, "off f16": 0.04}[f"{settings.flash_attention} {settings.kv_type}"]


class Machine:
    """Repeats with noise; counts what was spent."""

    def __init__(self, noise: float, broken: frozenset[Settings] = frozenset()) -> None:
        self.noise, self.broken, self.random, self.repeats = noise, broken, random.Random(0), 0

    def measure(self, settings: Settings, repeats: int) -> Outcome:
        self.repeats += repeats
        if settings in self.broken:
            return Outcome(error="it was ended by SIGILL")
        seconds = [true_seconds(settings) * (1 + self.random.gauss(0, self.noise)) for _ in range(repeats)]
        return Outcome([one / 4 for one in seconds], [one * 3 / 4 for one in seconds])


def test_a_search_finds_what_an_exhaustive_run_finds_with_half_of_the_work() -> None:
    best = min(SPACE, key=true_seconds)
    everything, halving = Machine(0.01), Machine(0.01)
    assert exhaustive(SPACE, everything.measure, repeats=7)[0].settings == best
    assert search(SPACE, halving.measure, noise=0.01)[0].settings == best
    assert halving.repeats < everything.repeats / 2


def test_one_measurement_of_each_does_not_find_it() -> None:
    """The negative control: with this noise the rounds are needed."""
    wrong = [exhaustive(SPACE, Machine(0.05).measure, repeats=1)[0].settings != min(SPACE, key=true_seconds)]
    assert wrong == [True]


def test_configurations_that_die_are_last_and_named() -> None:
    broken = frozenset(one for one in SPACE if one.build == "host")
    machine = Machine(0.0, broken)
    found = search(SPACE, machine.measure, noise=0.0)
    assert found[0].settings == min(set(SPACE) - broken, key=true_seconds)
    assert {one.settings for one in found if one.error} == broken
    assert [one.error for one in found[-len(broken) :]] == ["it was ended by SIGILL"] * len(broken)
    assert all(one.rounds == 1 for one in found[-len(broken) :])


def test_a_search_without_survivors_ends() -> None:
    found = search(SPACE[:3], Machine(0.0, frozenset(SPACE)).measure, noise=0.0)
    assert [one.error for one in found] == ["it was ended by SIGILL"] * 3


@pytest.mark.parametrize(
    ("seconds", "noise", "kept"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], 0.0, 3),  # a third
        ([1, 2, 3, 3.1, 3.2, 3.3, 7, 8, 9], 0.05, 4),  # those within 5% of the third, 3.15, too: 3.1
        ([1, 1, 1, 1, 1, 1, 1, 1, 1], 0.05, 4),  # never more than half
        ([1, 2, 3, 4], 0.0, 2),
        ([1, 2], 0.5, 1),
    ],
)
def test_who_survives_a_round(seconds: list[float], noise: float, kept: int) -> None:
    ordered = [Candidate(Settings(), [one]) for one in seconds]
    assert survivors(ordered, noise) == ordered[:kept]


def test_rounds_take_one_two_and_four_repeats() -> None:
    found = search(SPACE[:9], Machine(0.0).measure, noise=0.0)
    assert sorted(len(one.seconds) for one in found) == [1] * 6 + [3] * 2 + [7]
