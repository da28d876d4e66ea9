from collections import Counter

from feedback.pair import Drop, Pair, Scored, build_pairs

GOOD, FAIR, POOR = Scored("good", "a b", 0.0), Scored("fair", "a b c", -1.0), Scored("poor", "a b c d", -2.0)


def ids(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.chosen.response_id, pair.rejected.response_id) for pair in pairs]


def test_the_higher_score_is_chosen() -> None:
    pairs, drops = build_pairs("p", [POOR, GOOD], limit=2, seed=0)
    assert pairs == [Pair(GOOD, POOR)] and drops == []


def test_all_pairs_with_different_scores_can_be_sampled() -> None:
    twin = Scored("twin", "x", 0.0)
    pairs, _ = build_pairs("p", [GOOD, FAIR, POOR, twin], limit=9, seed=0)
    assert sorted(ids(pairs)) == [
        ("fair", "poor"),
        ("good", "fair"),
        ("good", "poor"),
        ("twin", "fair"),
        ("twin", "poor"),
    ]


def test_sampling_is_seeded_and_independent_of_the_margin() -> None:
    responses = [Scored(str(i), f"text {i}", float(-i)) for i in range(6)]
    assert build_pairs("p", responses, limit=2, seed=5) == build_pairs("p", responses, limit=2, seed=5)
    first = Counter(ids(build_pairs("p", responses, limit=1, seed=seed)[0])[0] for seed in range(1500))
    assert len(first) == 15  # 6 * 5 / 2 pairs, each expected 100 times with a standard deviation below 10
    assert all(60 < count < 140 for count in first.values())


def test_no_response_is_reused_on_a_side_while_other_pairs_remain() -> None:
    for seed in range(50):
        pairs = ids(build_pairs("p", [GOOD, FAIR, POOR], limit=2, seed=seed)[0])
        # Both other pairs share a side with (good, poor); without it, the chain good > fair > poor remains.
        if ("good", "poor") not in pairs:
            assert sorted(pairs) == [("fair", "poor"), ("good", "fair")]
    many = [Scored(str(i), f"text {i}", float(-(i % 2))) for i in range(8)]
    for seed in range(50):
        pairs = ids(build_pairs("p", many, limit=4, seed=seed)[0])
        assert len({chosen for chosen, _ in pairs}) == len({rejected for _, rejected in pairs}) == 4


def test_ties_are_dropped_once_per_prompt() -> None:
    ties = [Scored("a", "one", -1.0), Scored("b", "two", -1.0), Scored("c", "three", -1.0)]
    assert build_pairs("p", ties, limit=2, seed=0) == ([], [Drop("p", "all_scores_equal", "3 responses score -1")])


def test_min_margin_excludes_close_scores() -> None:
    near = Scored("near", "a b c d e", -0.1)
    pairs, _ = build_pairs("p", [GOOD, near, FAIR], limit=9, seed=0, min_margin=0.5)
    assert {(pair.chosen.response_id, pair.rejected.response_id) for pair in pairs} == {
        ("good", "fair"),
        ("near", "fair"),
    }
    assert build_pairs("p", [GOOD, near], limit=9, seed=0, min_margin=0.5) == (
        [],
        [Drop("p", "all_scores_equal", "2 responses score -0.1 to 0")],
    )


def test_a_pair_is_made_only_where_its_order_is_certain() -> None:
    """By its score high is better than fair and poor; with its unknown claim it may equal fair, but not poor."""
    high = Scored("high", "x y", 0.0, bounds=(-1.0, 0.0))
    assert set(ids(build_pairs("p", [high, FAIR, POOR], limit=9, seed=0)[0])) == {("high", "poor"), ("fair", "poor")}
    assert ids(build_pairs("p", [high, POOR], limit=9, seed=0, min_margin=1.0)[0]) == [("high", "poor")]
    assert build_pairs("p", [high, POOR], limit=9, seed=0, min_margin=1.5)[0] == []
    low = Scored("low", "x z", -2.0, bounds=(-3.0, -1.0))  # its score is that of its verified claims
    assert ids(build_pairs("p", [GOOD, low], limit=9, seed=0)[0]) == [("good", "low")]
    assert build_pairs("p", [high, low], limit=9, seed=0) == (
        [],
        [Drop("p", "order_uncertain", "2 responses score -2 to 0, with their unknown claims -3 to 0")],
    )


def test_equal_scores_are_equal_whatever_is_unknown() -> None:
    vague = Scored("vague", "x y", -1.0, bounds=(-2.0, -1.0))
    drops = build_pairs("p", [FAIR, vague], limit=2, seed=0)[1]
    assert drops == [Drop("p", "all_scores_equal", "2 responses score -1")]


def test_equal_texts_count_once() -> None:
    copy = Scored("copy", "a  b\n", 0.0)
    pairs, drops = build_pairs("p", [GOOD, copy, POOR], limit=9, seed=0)
    assert pairs == [Pair(GOOD, POOR)]
    assert drops == [Drop("copy", "equal_text", "same text as good")]


def test_one_response_makes_no_pair() -> None:
    assert build_pairs("p", [GOOD], limit=2, seed=0) == (
        [],
        [Drop("p", "single_response", "1 distinct scored responses")],
    )
    assert build_pairs("p", [], limit=2, seed=0)[1][0].reason == "single_response"


def test_balance_picks_the_pair_that_evens_out_the_lengths() -> None:
    # words: good 2, fair 3, poor 4. Chosen minus rejected: good-fair -1, fair-poor -1, good-poor -2.
    responses = [GOOD, FAIR, POOR, Scored("wordy", "a b c d e f g", -0.5)]  # wordy-fair 4, wordy-poor 3, good-wordy -5
    for seed in range(20):
        assert ids(build_pairs("p", responses, limit=1, seed=seed, surplus=2)[0]) == [("good", "poor")]
        assert ids(build_pairs("p", responses, limit=1, seed=seed, surplus=-4)[0]) == [("wordy", "fair")]
        # From -3: wordy-poor brings 0, and of the pairs with neither side used, good-fair (-1) beats good-wordy (-5).
        pairs = ids(build_pairs("p", responses, limit=2, seed=seed, surplus=-3)[0])
        assert pairs == [("wordy", "poor"), ("good", "fair")]
