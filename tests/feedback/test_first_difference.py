"""Pairs that differ in the first wrong sentence: which sentences, which claims belong to them, and the rows by hand."""

import json
from pathlib import Path

import pytest

from feedback.check.form import sentence_spans
from feedback.first_difference import Cut, Response, VerifiedClaim, build_first_differences
from feedback.pair import Scored
from rlaif.config.load import load_config
from rlaif.errors import ConfigError
from rlaif.interchange.export import export
from rlaif.storage.run import Run
from rlaif.storage.tables import answers_are_cut
from tests.support.two_images import response_id, rows, run_stage, write_inputs

DOG, CAT, BALL, TREE = "A dog runs.", "A cat sleeps.", "A man throws a ball.", "A tree stands behind."


def response(name: str, text: str, **verdicts: bool | None) -> Response:
    """Claims by their last word."""
    claims = {"runs": "A dog runs.", "sleeps": "A cat sleeps.", "ball": "A man throws a ball.", "behind": TREE}
    return Response(
        Scored(name, text, 0.0), [VerifiedClaim(claims[word], accepted) for word, accepted in verdicts.items()]
    )


def pairs_of(*responses: Response, limit: int = 5) -> tuple[list[tuple[str, str]], list[str]]:
    pairs, drops = build_first_differences("prompt", responses, limit=limit, seed=0)
    return sorted((pair.chosen.text, pair.rejected.text) for pair in pairs), [drop.reason for drop in drops]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("A dog. A cat!  Is it? Yes.", ["A dog.", "A cat!", "Is it?", "Yes."]),
        ('The sign reads "Stop. Look." It is red.', ['The sign reads "Stop. Look." It is red.']),
        ("It costs 3.50 at St. James. Fine.", ["It costs 3.50 at St. James.", "Fine."]),
        ("1. A dog\n2. A cat", ["1. A dog", "2. A cat"]),
        ("一只狗。一只猫。", ["一只狗。", "一只猫。"]),
        ("one", ["one"]),
        ("  \n ", []),
    ],
)
def test_sentences(text: str, parts: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == parts


def test_both_answers_end_after_the_first_wrong_sentence() -> None:
    low = response("low", f"{DOG} {BALL} {CAT}", runs=True, ball=False, sleeps=False)
    high = response("high", f"{DOG} {TREE} {CAT}", runs=True, behind=True, sleeps=False)
    pairs, drops = build_first_differences("prompt", [high, low], limit=2, seed=0)
    (pair,) = pairs
    assert not drops
    assert pair.chosen == Cut("high", f"{DOG} {TREE}", 0.0, claims=(0, 1))
    assert pair.rejected == Cut("low", f"{DOG} {BALL}", -1.0, claims=(0, 1))


def test_the_beginning_may_be_empty() -> None:
    low = response("low", f"{BALL} {DOG}", ball=False, runs=True)
    high = response("high", f"{DOG} {CAT}", runs=True, sleeps=True)
    assert pairs_of(low, high) == ([(DOG, BALL)], [])


def test_another_beginning_makes_no_pair() -> None:
    low = response("low", f"{DOG} {BALL}", runs=True, ball=False)
    assert pairs_of(low, response("high", f"{CAT} {TREE}", sleeps=True, behind=True)) == ([], ["no_shared_beginning"])
    assert pairs_of(low, response("short", DOG, runs=True)) == ([], ["no_shared_beginning"])  # it does not go on
    spaced = response("spaced", f"{DOG}  {TREE}", runs=True, behind=True)
    assert pairs_of(low, spaced) == ([], ["no_shared_beginning"])  # beginnings are equal letter by letter


def test_what_has_no_verdict_is_neither_wrong_nor_true() -> None:
    low = response("low", f"{DOG} {BALL}", runs=True, ball=False)
    assert pairs_of(low, response("high", f"{DOG} {TREE}", runs=True, behind=None))[0] == []
    assert pairs_of(low, response("bare", f"{DOG} It is nice.", runs=True))[0] == []  # no claim to be true
    unknown = response("low", f"{DOG} {CAT} {BALL}", runs=True, sleeps=None, ball=False)
    true = response("high", f"{DOG} {CAT} {TREE}", runs=True, sleeps=True, behind=True)
    assert pairs_of(unknown, true) == ([], ["no_false_sentence"])  # the second sentence may be the first wrong one


def test_a_claim_that_fits_two_sentences_decides_neither() -> None:
    text = "A red car parks. A red car waits."
    claim = [VerifiedClaim("There is a red car.", False)]
    true = response("high", TREE, behind=True)
    assert pairs_of(Response(Scored("low", text, 0.0), claim), true) == ([], ["no_false_sentence"])
    sure = [VerifiedClaim("A red car waits.", False), VerifiedClaim("A red car parks.", True)]
    other = [VerifiedClaim("A red car parks.", True), VerifiedClaim(TREE, True)]
    low, high = Response(Scored("low", text, 0.0), sure), Response(Scored("h", f"A red car parks. {TREE}", 0.0), other)
    assert pairs_of(low, high) == ([(f"A red car parks. {TREE}", text)], [])
    nowhere = Response(Scored("low", text, 0.0), [VerifiedClaim("It flies.", False)])
    assert pairs_of(nowhere, true) == ([], ["no_false_sentence"])


def test_equal_texts_and_the_limit() -> None:
    lows = [response(f"low {index}", f"{BALL} {DOG * index}", ball=False, runs=True) for index in range(3)]
    highs = [response("a", DOG, runs=True), response("b", CAT, sleeps=True), response("c", DOG, runs=True)]
    pairs, reasons = pairs_of(*lows, *highs)
    assert pairs == [(CAT, BALL), (DOG, BALL)] and reasons == ["equal_text"]  # beginnings that are equal count once
    assert len(pairs_of(*lows, *highs, limit=1)[0]) == 1
    assert pairs_of(lows[0]) == ([], ["single_response"])
    assert pairs_of(*highs) == ([], ["equal_text", "no_false_sentence"])


CIRCLE, SQUARE = "There is a red circle.", "There is a blue square."


def test_rows_of_the_stage(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{CIRCLE} {SQUARE} It is nice.", f"{CIRCLE} There is a red circle again. {SQUARE}", CIRCLE]
    responses = {"red": [(text, "stop") for text in texts], "blue": [(CIRCLE, "stop"), (f"{SQUARE} {CIRCLE}", "stop")]}
    monkeypatch.setattr("tests.support.two_images.RESPONSES", responses)
    path, change = tmp_path / "run", "feedback.pairs=first_difference"
    config = load_config(config_file, [change])
    write_inputs(config, path)
    run_stage(config_file, path, change)
    assert answers_are_cut(Run(path, config, "dpo"))
    red, blue = rows(path, "pairs")
    texts_of = [[pair[side][0]["content"] for side in ("chosen", "rejected")] for pair in (red, blue)]
    assert texts_of == [[f"{CIRCLE} There is a red circle again.", f"{CIRCLE} {SQUARE}"], [SQUARE, CIRCLE]]
    assert (red["chosen_response_id"], red["rejected_response_id"]) == (response_id("red", 1), response_id("red", 0))
    assert (red["chosen_score"], red["rejected_score"]) == (0.0, -1.0)
    assert [claim["verdict"] for claim in red["chosen_claims"]] == [True, True]
    assert [(claim["claim"], claim["verdict"]) for claim in red["rejected_claims"]] == [(CIRCLE, True), (SQUARE, False)]
    assert [claim["claim"] for claim in blue["chosen_claims"]] == [SQUARE]
    metrics = json.loads((path / "metrics.json").read_text())["feedback"]
    assert (metrics["mean_words_chosen"], metrics["mean_words_rejected"]) == ((11 + 5) / 2, (10 + 5) / 2)
    with pytest.raises(ConfigError, match=r"feedback\.pairs=first_difference: they end within an answer"):
        export(config, path)
    assert not (path / "export").exists()


@pytest.mark.parametrize("change", ["feedback.score=mean_log_odds", "feedback.min_margin=0.5"])
def test_scores_of_responses_are_not_read(config_file: Path, change: str) -> None:
    with pytest.raises(ConfigError, match=r"first_difference.*set score to rejected_count and min_margin to 0"):
        load_config(config_file, ["feedback.pairs=first_difference", change])
