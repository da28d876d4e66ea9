"""Claims that are asked, restated and unknown, in the tables of the stage: by hand, with a scripted labeler."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import feedback.stage as stage
from rlaif.config.load import load_config
from rlaif.inference.engine import Completion, Request
from rlaif.storage.files import make_id
from tests.support.doubles import ScriptedEngine
from tests.support.two_images import labeler, png, prompt_id, response_id, rows, run_stage

STATEMENT = "There is a blue square."


def careless(request: Request) -> Any:
    """As `labeler`, but it asks for a blue square with another question, and adds a claim to the first response."""
    if request.json_schema is None:
        return labeler(request)
    (text,) = labeler(request)
    claims = json.loads(str(text))["claims"]
    if "It is nice." in request.text and claims:
        claims.append({"claim": "A yellow dog is running.", "question": "Is a yellow dog running?"})
    for claim in claims:
        if claim["claim"] == STATEMENT:
            claim["question"] = "Is there a red circle?"
    return [json.dumps({"claims": claims})]


@pytest.mark.parametrize("split_by", ["labeler", "splitter"])
def test_restated_and_unknown_claims_by_hand(
    config_file: Path, run_path: Path, capsys: pytest.CaptureFixture[str], split_by: str
) -> None:
    model = [f"splitter.model={load_config(config_file).labeler.model}"] if split_by == "splitter" else []
    engines = []

    def open_engine(*_: Any) -> ScriptedEngine:
        engines.append(ScriptedEngine(careless))
        return engines[-1]

    stage.feedback(load_config(config_file, model), run_path, open_engine)
    red, blue = partial(response_id, "red"), partial(response_id, "blue")
    claims = {(row["response_id"], row["claim"]): row for row in rows(run_path, "claims")}
    shown = ("outcome", "reason", "verdict", "p_yes")
    assert [
        tuple(claims[red(0), text][name] for name in shown[:3]) for text in ("There is a red circle.", STATEMENT)
    ] == [
        ("asked", "", True),
        ("restated", "mismatched_question", False),
    ]
    assert [claims[red(0), "A yellow dog is running."][name] for name in shown] == [
        "unknown",
        "invented_claim",
        None,
        None,
    ]
    assert claims[blue(0), STATEMENT]["outcome"] == "restated" and claims[blue(0), STATEMENT]["verdict"] is True

    texts = [request.text for engine in engines for request in engine.requests if request.image == png("red")]
    assert f"Is this description correct? {STATEMENT} Answer yes or no." in texts
    assert "Is there a blue square? Answer yes or no." not in texts and not any("yellow" in text for text in texts)

    scores = {row["response_id"]: row for row in rows(run_path, "scores")}
    names = ("num_claims", "num_rejected", "num_restated", "num_unknown", "score", "score_low", "score_high")
    assert [scores[red(0)][name] for name in names] == [3, 1, 1, 1, -1.0, -2.0, -1.0]
    assert [scores[red(1)][name] for name in names] == [1, 0, 0, 0, 0.0, 0.0, 0.0]
    assert scores[red(0)]["coverage"] == 4 / 5, "an unknown claim covers nothing"

    dropped = {row["row_id"]: row for row in rows(run_path, "dropped")}
    row = dropped[make_id(red(0), "2")]
    assert row["reason"] == "invented_claim" and row["detail"].startswith("'A yellow dog is running.' | 'Is a")

    (pair,) = rows(run_path, "pairs")  # 0 against at most -1: certain
    assert (pair["chosen_score"], pair["rejected_score"]) == (0.0, -1.0)
    assert [(claim["outcome"], claim["verdict"]) for claim in pair["rejected_claims"]] == [
        ("asked", True),
        ("restated", False),
        ("unknown", None),
    ]
    metrics = json.loads((run_path / "metrics.json").read_text())["feedback"]
    assert {name: metrics[name] for name in metrics if "claims" in name or "share" in name} == {
        "claims_per_response": 7 / 5,
        "asked_claims": 3,
        "restated_claims": 3,
        "unknown_claims": 1,
        "restated_share": 3 / 7,
        "unknown_share": 1 / 7,
        "rejected_share": 1 / 6,
        "weak_verdict_share": 0.0,
    }
    output = capsys.readouterr().out
    assert "3 claims verified by their question, 3 restated as a statement, 1 unknown" in output


def test_verify_statement_asks_no_question(config_file: Path, run_path: Path) -> None:
    engine = run_stage(config_file, run_path, "feedback.verify=statement")
    assert {row["outcome"] for row in rows(run_path, "claims")} == {"restated"}
    assert {row["reason"] for row in rows(run_path, "claims")} == {""}
    assert not any(request.text.startswith("Is there") for request in engine.requests)
    assert [row["verdict"] for row in rows(run_path, "claims")].count(False) == 1 and len(rows(run_path, "pairs")) == 1


def test_a_response_of_unknown_claims_only_is_dropped(
    config_file: Path, run_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the labeler takes no request about the image; the reason says which of both it is."""

    def inventive(request: Request) -> Any:
        if request.json_schema is None:
            return labeler(request)
        return [json.dumps({"claims": [{"claim": "A yellow dog is running.", "question": "Is it?"}]})]

    run_stage(config_file, run_path, answer=inventive)
    assert rows(run_path, "claims") == rows(run_path, "scores") == []
    dropped = {row["row_id"]: row for row in rows(run_path, "dropped")}
    row = dropped[response_id("red", 1)]
    assert row["reason"] == "all_claims_unknown"
    assert row["detail"] == "1 invented_claim; first 'A yellow dog is running.' | 'Is it?'"
    lost = [row for row in dropped.values() if row["reason"] == "all_claims_unknown"]
    metrics = json.loads((run_path / "metrics.json").read_text())["feedback"]
    assert metrics["lost_responses"] == len(lost) > 1
    output = capsys.readouterr().out
    assert f"{len(lost)} responses lost, because all of their claims are unknown" in output
    assert "next     make dpo" not in output, "there is no pair to train on"


def test_a_claim_that_the_labeler_does_not_take_is_unknown(config_file: Path, run_path: Path) -> None:
    """It costs neither the other claims nor the response; without the whole response, only that score is missing."""

    class Prudish(ScriptedEngine):
        def complete(self, request: Request) -> list[Completion]:
            refused = request.image is not None and "square" in request.text
            return [Completion("", 0, "content_filter")] if refused else super().complete(request)

    stage.feedback(load_config(config_file), run_path, lambda *_: Prudish(labeler))
    scores = {row["response_id"]: row for row in rows(run_path, "scores")}
    first = scores[response_id("red", 0)]
    assert (first["num_unknown"], first["score_low"], first["score_high"]) == (1, -1.0, 0.0)
    assert first["whole_response_score"] is None
    dropped = {row["row_id"]: row["reason"] for row in rows(run_path, "dropped")}
    assert dropped[make_id(response_id("red", 0), "1")] == "question_unanswered"
    assert dropped[response_id("blue", 0)] == "question_unanswered"
    assert rows(run_path, "pairs") == [] and dropped[prompt_id("red")] == "all_scores_equal"
