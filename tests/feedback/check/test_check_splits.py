import json
from pathlib import Path
from typing import Any

import pytest

from feedback.check_splits import main
from tests.support import ROOT

BUS = {
    "instruction": "What color is the bus?",
    "response": "Red.",
    "claims": [
        {"claim": "The bus is red.", "question": "Is the bus red?"},
        {"claim": "The bus is red.", "question": "Is the bus blue?"},
        {"claim": "The bus is blue.", "question": "Is the bus blue?"},
        {"claim": "The bus is <Start> new.", "question": "Is the bus new?"},
    ],
}


def run(tmp_path: Path, rows: list[Any], capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    file = tmp_path / "splits.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert main([str(file), *options]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_for_each_claim_and_the_totals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = {"instruction": "", "response": "Eine Katze.", "claims": [{"claim": "Ein Hund.", "question": "Ein Hund?"}]}
    empty = {"instruction": "", "response": "Nice!", "claims": []}
    *claims, totals = run(tmp_path, [BUS, lost, empty], capsys)
    assert [(row["case"], row["outcome"], row["reason"], row["unclear"]) for row in claims] == [
        (1, "asked", "", False),
        (1, "restated", "mismatched_question", False),
        (1, "unknown", "invented_claim", False),
        (1, "unknown", "invented_claim", True),
        (2, "unknown", "invented_claim", True),
    ]
    assert claims[3]["claim"] == "The bus is < Start> new."
    assert totals == {"claims": 5, "asked": 1, "restated": 1, "unknown": 3, "responses": 3, "responses_lost": 2}


def test_more_claims_than_words_lose_the_response(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = [{"claim": f"{a} {b}", "question": f"{a} {b}?"} for a in ("red", "car") for b in ("red", "car", "a")]
    *rows, totals = run(tmp_path, [{"instruction": "", "response": "A red car.", "claims": claims}], capsys)
    assert {(row["outcome"], row["reason"]) for row in rows} == {("unknown", "too_many_claims")}
    assert totals["responses_lost"] == 1


def test_statements_as_configured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "configs/demo.yaml").read_text(encoding="utf-8")
    (tmp_path / "it.yaml").write_text(text.replace("feedback:\n", "feedback:\n  verify: statement\n"), encoding="utf-8")
    *_, totals = run(tmp_path, [BUS], capsys, "--config", str(tmp_path / "it.yaml"))
    assert (totals["asked"], totals["restated"], totals["unknown"]) == (0, 2, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"instruction": "a", "resp', "ends in line 1 within its JSON"),
        ('{"instruction": "a", "response": "b"}', 'line 1 has {"instruction": "a", "response": "b"}; expected'),
        ('{"instruction": "a", "response": "b", "claims": "c"}', "line 1 has claims that are not a list of objects"),
        ('{"instruction": "a", "response": "b", "claims": [{"claim": "c"}]}', "line 1 has a field that is missing"),
        ("", "is empty; expected a list of rows, or JSON lines"),
    ],
)
def test_bad_files_are_refused_in_one_line(
    tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "splits.jsonl").write_text(content, encoding="utf-8")
    assert main([str(tmp_path / "splits.jsonl")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_missing_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere.jsonl"]) == 2
    assert "nowhere.jsonl is not a file" in capsys.readouterr().err
