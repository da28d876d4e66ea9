"""Who is asked about: strata, how many of each, and that a sample is the same whatever the order of rows."""

import random

import pytest

from evaluation.audit.sample import LEAST, Stratum, allocate, band, draw_claims, draw_pairs


def claims(count: int = 3000) -> list[tuple[str, float, bool]]:
    """Mostly confident claims, as labelers make them."""
    rng = random.Random(0)
    values = [rng.betavariate(0.2, 0.2) for _ in range(count)]
    return [(f"c{index}", value, value > 0.5) for index, value in enumerate(values)]


def test_a_sample_does_not_depend_on_the_order_of_rows_and_grows() -> None:
    rows = claims()
    strata, drawn = draw_claims(rows, 100, seed=1)
    assert len(drawn) == len(set(drawn)) == 100
    assert sum(stratum.size for stratum in strata) == 3000
    shuffled = random.Random(1).sample(rows, len(rows))
    assert draw_claims(shuffled, 100, seed=1)[1] == drawn
    assert set(drawn) < set(draw_claims(rows, 200, seed=1)[1])
    assert set(drawn) != set(draw_claims(rows, 100, seed=2)[1])


def test_each_stratum_is_asked_about_and_doubtful_ones_more_often() -> None:
    rows = claims()
    strata, drawn = draw_claims(rows, 200, seed=0)
    kinds = {claim_id: f"{'accepted' if verdict else 'rejected'}, p(yes) {band(p)}" for claim_id, p, verdict in rows}
    counts = {stratum.name: sum(kinds[claim_id] == stratum.name for claim_id in drawn) for stratum in strata}
    assert min(counts.values()) >= LEAST
    shares = {stratum.name: counts[stratum.name] / stratum.size for stratum in strata}
    assert shares["accepted, p(yes) 0.5-0.7"] > 2 * shares["accepted, p(yes) 0.9-1"]
    assert counts["accepted, p(yes) 0.9-1"] > counts["accepted, p(yes) 0.5-0.7"]


def test_small_strata_are_taken_whole_and_a_small_run_too() -> None:
    strata = [Stratum("a", 10), Stratum("b", 10)]
    for index in range(3):
        strata[0].add(index, f"a{index}", 0.9)
    for index in range(9):
        strata[1].add(index, f"b{index}", 0.9)
    assert allocate(strata, 10) == [3, 7]
    assert allocate(strata, 100) == [3, 9]
    assert sorted(draw_claims([("x", 0.9, True), ("y", 0.1, False)], 100, seed=0)[1]) == ["x", "y"]
    assert draw_claims([], 100, seed=0) == ([], [])


@pytest.mark.parametrize(("p_yes", "name"), [(0.0, "0-0.1"), (0.1, "0.1-0.3"), (0.4999, "0.3-0.5"), (1.0, "0.9-1")])
def test_the_band_of_a_probability(p_yes: float, name: str) -> None:
    assert band(p_yes) == name


def test_pairs_of_every_margin() -> None:
    strata, drawn = draw_pairs([(f"p{index}", float(index)) for index in range(90)], 30, seed=0)
    assert sorted(stratum.name for stratum in strata) == ["large margin", "middle margin", "small margin"]
    thirds = [sum(int(pair[1:]) // 30 == third for pair in drawn) for third in range(3)]
    assert thirds == [10, 10, 10] or (sum(thirds) == 30 and min(thirds) >= 9)
    assert draw_pairs([], 30, seed=0) == ([], [])
