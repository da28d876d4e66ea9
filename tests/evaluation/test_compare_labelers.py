"""Two labelers: figures by hand, and the table of two small runs."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from evaluation.agreement import Agreement, Calibration
from evaluation.compare_labelers import main
from rlaif.config import Section
from rlaif.storage.files import make_id
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter
from tests.support.captions.scene_truth import reference_of, thing
from tests.support.runs.label_rows import claim_row, response_row

TRUE, FALSE = "There is a red car.", "There is a blue book."
VAGUE = "It is a nice day."  # no mention that could be checked


def test_calibration_by_hand() -> None:
    calibration = Calibration()
    for p_yes, truth in ((0.95, True), (0.91, False), (1.0, True), (0.05, False), (0.62, True)):
        calibration.add(p_yes, p_yes > 0.5, truth)
    # squares: 0.0025, 0.8281, 0, 0.0025, 0.1444
    assert calibration.brier() == pytest.approx(0.9775 / 5)
    # last bin: three claims, mean p 0.95333, two true: |2.86 - 2| = 0.86; first: |0.05 - 0|; seventh: |0.62 - 1|
    assert calibration.expected_error() == pytest.approx((0.86 + 0.05 + 0.38) / 5)
    assert calibration.accuracy() == 4 / 5


def test_a_perfect_and_a_constant_labeler() -> None:
    perfect, constant = Calibration(), Calibration()
    for truth in (True, False) * 5:
        perfect.add(float(truth), truth, truth)
        constant.add(0.5, False, truth)
    assert (perfect.accuracy(), perfect.brier(), perfect.expected_error()) == (1.0, 0.0, 0.0)
    assert (constant.accuracy(), constant.brier(), constant.expected_error()) == (0.5, 0.25, 0.0)


def test_kappa_by_hand() -> None:
    agreement = Agreement()
    # the textbook table: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no -> 0.7, by chance 0.5, kappa 0.4
    for first, second, times in ((True, True, 20), (True, False, 5), (False, True, 10), (False, False, 15)):
        for _ in range(times):
            agreement.add_verdicts(first, second)
    assert agreement.claims == 50
    assert agreement.verdict_share() == pytest.approx(0.7)
    assert agreement.kappa() == pytest.approx(0.4)


def test_kappa_where_both_always_say_the_same() -> None:
    agreement = Agreement()
    agreement.add_verdicts(True, True)
    assert agreement.verdict_share() == 1.0 and agreement.kappa() is None


def test_pair_order_counts_what_both_order() -> None:
    agreement = Agreement()
    first = {"a": 0.0, "b": -1.0, "c": -2.0, "d": -2.0, "only": -9.0}
    second = {"a": 0.0, "b": -3.0, "c": -1.0, "d": 0.0}
    agreement.add_scores(*({key: (score, score) for key, score in scores.items()} for scores in (first, second)))
    # of ab ac ad bc bd cd the second ties ad, the first cd; ab and ac alike, bc and bd not
    assert (agreement.pairs, agreement.equal_pairs) == (4, 2)
    assert agreement.pair_share() == 0.5


def test_pairs_have_an_order_only_where_unknown_claims_cannot_turn_it() -> None:
    """The first orders ac, ad and bd; the others overlap or touch. The second orders all, and only bd alike."""
    agreement = Agreement()
    first = {"a": (-1.0, 0.0), "b": (-2.0, -1.0), "c": (-4.0, -2.0), "d": (-3.0, -3.0)}
    second = {"a": (-4.0, -4.0), "b": (-1.0, -1.0), "c": (0.0, 0.0), "d": (-2.0, -2.0)}
    agreement.add_scores(first, second)
    assert (agreement.pairs, agreement.equal_pairs) == (3, 1)


def test_nothing_to_compare_is_none() -> None:
    agreement, calibration = Agreement(), Calibration()
    assert (agreement.verdict_share(), agreement.kappa(), agreement.pair_share()) == (None, None, None)
    assert (calibration.accuracy(), calibration.brier(), calibration.expected_error()) == (None, None, None)


def write_inputs(path: Path, *, truth: bool = True, settings: str = "same") -> None:
    """One prompt whose image has a red car, and two responses."""
    run = Run(path, Section(), "generation")
    run.begin(["prompts", "responses"], {"data": settings}, inputs=[])
    with TableWriter(run, "prompts", key="prompt_id") as writer:
        writer.write(
            [
                {
                    "prompt_id": "p",
                    "image": {"bytes": b"png", "path": "p.png"},
                    "image_sha256": hashlib.sha256(b"png").hexdigest(),
                    "instruction": "Describe.",
                    "source": "scenes",
                    "split": "train",
                    "reference": reference_of(thing("car", "left", color="red", size="small")) if truth else None,
                }
            ]
        )
    with TableWriter(run, "responses", key="prompt_id") as writer:
        writer.write(
            response_row(response_id, "p", index, text)
            for index, (response_id, text) in enumerate((("a", TRUE), ("b", f"{TRUE} {FALSE}")))
        )
    run.finish({}, None)


def write_labels(
    path: Path, labeler: str, claims: dict[tuple[str, str], float | None], scores: dict[str, float]
) -> None:
    """Claims (by response and text: p_yes, None for an unknown one) and scores, as feedback leaves them."""
    run = Run(path, Section(), "feedback")
    run.begin(["claims", "scores"], {"labeler": labeler}, inputs=["prompts", "responses"])
    with TableWriter(run, "claims", key="prompt_id") as writer:
        writer.write(
            claim_row(response_id, "p", index, claim, p_yes, claim_id=make_id(response_id, claim), labeler=labeler)
            for index, ((response_id, claim), p_yes) in enumerate(claims.items())
        )
    with TableWriter(run, "scores", key="prompt_id") as writer:
        writer.write(
            {
                "response_id": response_id,
                "prompt_id": "p",
                "num_claims": 1,
                "num_rejected": 0,
                "num_restated": 0,
                "num_unknown": 0,
                "score": score,
                "score_low": score,
                "score_high": score,
                "coverage": 1.0,
                "whole_response_score": 0.0,
            }
            for response_id, score in scores.items()
        )
    run.finish({}, None)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    """The good labeler is always right; the hasty one accepts all and splits one response otherwise."""
    good, hasty = tmp_path / "good", tmp_path / "hasty"
    for path in (good, hasty):
        write_inputs(path)
    write_labels(good, "good", {("a", TRUE): 0.75, ("b", TRUE): 0.75, ("b", FALSE): 0.25}, {"a": 0.0, "b": -1.0})
    claims = {("a", TRUE): 1.0, ("b", FALSE): 1.0, ("b", VAGUE): 1.0, ("b", TRUE): None}
    write_labels(hasty, "hasty", claims, {"a": 0.0, "b": 1.0})
    cost: dict[str, Any] = {"seconds": 6.0, "claims": 3, "prompt_tokens": 300, "answer_tokens": 30}
    Run(good, Section(), "x").update_metrics(labeling=cost)
    return str(good), str(hasty)


def cells(out: str) -> dict[str, list[str]]:
    return {line[:28].strip(): line[28:].split() for line in out.splitlines()}


def test_one_table(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(runs) == 0
    assert cells(capsys.readouterr().out) == {
        "run": list(runs),
        "labeler": ["good", "hasty"],
        "claims": ["3", "4"],
        "unknown": ["0", "1"],
        "with known truth": ["3", "2"],
        "verdict accuracy": ["100.0%", "50.0%"],
        "Brier score of p_yes": ["0.0625", "0.5000"],
        "calibration error of p_yes": ["0.2500", "0.5000"],  # hasty: its two claims, of which one is true, share a bin
        "seconds per claim": ["2.0000", "-"],
        "prompt tokens per claim": ["100.0", "-"],
        "answer tokens per claim": ["10.0", "-"],
        "claims of both": ["2"],
        "equal verdicts": ["50.0%"],
        "Cohen's kappa": ["0.0000"],  # the hasty one accepts both: agreement by chance is 0.5
        "pairs that both order": ["1"],
        "in the same order": ["0.0%"],
    }


def test_without_truth_the_rest_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        write_inputs(tmp_path / name, truth=False)
        write_labels(tmp_path / name, name, {("a", TRUE): 0.9}, {"a": 0.0, "b": -1.0})
    capsys.readouterr()
    assert main([str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    table = cells(capsys.readouterr().out)
    assert table["verdict accuracy"] == table["Brier score of p_yes"] == ["-", "-"]
    assert table["equal verdicts"] == table["in the same order"] == ["100.0%"]


def test_other_responses_cannot_be_compared(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inputs(tmp_path / "other", settings="other")
    write_labels(tmp_path / "other", "other", {("a", TRUE): 0.9}, {"a": 0.0})
    assert main([runs[0], str(tmp_path / "other")]) == 2
    error = capsys.readouterr().err
    assert "have different prompts; copy prompts.parquet and responses.parquet of one run" in error
    assert error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize("number", [0, 1, 3])
def test_two_are_compared(runs: tuple[str, str], number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([runs[0]] * number) == 2
    assert f'got {number} runs, expected two; name them as in RUNS="runs/demo runs/other"' in capsys.readouterr().err


def test_a_run_without_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        write_inputs(tmp_path / name)
    assert main([str(tmp_path / "one"), str(tmp_path / "two")]) == 2
    assert "claims.parquet is missing; first run `make feedback" in capsys.readouterr().err
