"""Audited claims as a test set: what is exported, and another labeler that verifies it."""

import math
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from evaluation.audit import export, read_back
from evaluation.audit.export import TABLE
from evaluation.audit.figures import FALSE, FOREIGN, TRUE, UNCLEAR
from evaluation.audit.read_back import comparison_table, read_claims, verify_claims
from evaluation.audit.store import Audit
from feedback.labeler_prompts import read_prompts
from rlaif.config import Config, EngineSection, ModelSection
from rlaif.errors import InputError
from rlaif.inference.engine import PROMPT_TOO_LONG, Completion, Request
from rlaif.storage.run import Run
from rlaif.storage.tables import read_metadata, read_rows
from tests.support.doubles import ScriptedEngine
from tests.support.runs.audited import answers_by_truth
from tests.support.synthetic_run import make_run

WORDING = read_prompts(None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A run whose audit is answered by the truth, except for its first three claims."""
    config, path = make_run(tmp_path_factory.mktemp("export"))
    audit = Audit.open(path, 60, 0)
    for kind, item, answer in answers_by_truth(audit, Run(path, config, "test"), "Ann"):
        audit.record(kind, item, answer, "Ann", 1.0)
    unclear, foreign, divided, shared = audit.sample["claims"][:4]
    audit.record("claim", unclear, UNCLEAR, "Ann", 1.0)
    audit.record("claim", foreign, FOREIGN, "Ann", 1.0)
    said = audit.answers("claim")
    audit.record("claim", divided, FALSE if said[divided]["Ann"] == TRUE else TRUE, "Bob", 1.0)
    audit.record("claim", shared, said[shared]["Ann"], "Bob", 1.0)
    export.main(["--run", str(path)])
    return config, path


class Labeler(ScriptedEngine):
    """Gives each request, image and text, the p(yes) that it is told; a request without one is too long for it."""

    def __init__(self, p_yes: dict[tuple[bytes, str], float]) -> None:
        self.p_yes = p_yes
        super().__init__(lambda request: self.log_probs(self.p_yes[request.image or b"", request.text]))

    def log_probs(self, p_yes: float) -> dict[int, float]:
        return {1: math.log(p_yes), 2: -99.0, 3: math.log(1 - p_yes), 4: -99.0}

    def complete(self, request: Request) -> list[Completion]:
        if (request.image or b"", request.text) not in self.p_yes:
            return [Completion("", 0, PROMPT_TOO_LONG)]
        return super().complete(request)


def ask(config: Config, rows: list[dict[str, Any]], p_yes: dict[tuple[bytes, str], float]) -> dict[str, list[str]]:
    """The cells of the printed table by the names of its rows."""
    opened: list[Labeler] = []

    def open_engine(section: ModelSection, engine: EngineSection, seed: int) -> Labeler:
        opened.append(Labeler(p_yes))
        return opened[-1]

    name, verdicts = verify_claims(rows, config, open_engine)
    assert len(opened) == 1 and opened[0].closed
    table = comparison_table(rows, name, verdicts, 0)
    return {line[:28].strip(): line[28:].split() for line in table.splitlines()[:-1]}


def key(row: dict[str, Any]) -> tuple[bytes, str]:
    return row["image"]["bytes"], WORDING.format_verify(row["question"])


def test_claims_with_a_truth_are_exported(finished: tuple[Config, Path], capsys: pytest.CaptureFixture[str]) -> None:
    config, path = finished
    audit = Audit.open(path, 60, 0)
    capsys.readouterr()
    assert export.main(["--run", str(path)]) == 0  # again, which replaces the table
    printed = capsys.readouterr().out
    assert "(57 rows)" in printed
    (left,) = [line for line in printed.splitlines() if line.startswith("  left out ")]
    assert set(left.removeprefix("  left out ").split(", ")) == {"1 cannot tell", "1 not of this response", "1 divided"}
    rows, said = read_claims(path), audit.answers("claim")
    assert {row["claim_id"] for row in rows} == set(audit.sample["claims"][3:])
    claims = {row["claim_id"]: row for row in read_rows(Run(path, config, "test"), "claims")}
    prompts = {row["prompt_id"]: row for row in read_rows(Run(path, config, "test"), "prompts")}
    weights: dict[str, float] = defaultdict(float)
    for row in rows:
        assert row["truth"] == (said[row["claim_id"]]["Ann"] == TRUE)
        assert row["image"] == prompts[row["prompt_id"]]["image"]
        assert all(row[name] == claims[row["claim_id"]][name] for name in ("claim", "question", "p_yes", "verdict"))
        weights[row["stratum"]] += row["weight"]
    assert {row["claim_id"]: (row["people"], row["agreeing"]) for row in rows if row["people"] > 1} == {
        audit.sample["claims"][3]: (2, 2)
    }
    assert weights == {item["name"]: pytest.approx(item["size"]) for item in audit.sample["claim_strata"]}
    assert read_metadata(audit, TABLE)["identity"] == audit.sample["sample"]
    content = (path / f"{TABLE}.parquet").read_bytes()
    assert b"Ann" not in content and b"Bob" not in content


def test_a_weighted_mean_of_the_test_set_is_the_figure_of_the_audit(finished: tuple[Config, Path]) -> None:
    rows = read_claims(finished[1])
    right = sum(row["weight"] for row in rows if row["verdict"] == row["truth"])
    figures, _ = Audit.open(finished[1], 60, 0).figures()
    assert right / sum(row["weight"] for row in rows) == pytest.approx(figures["agreement"])


def test_a_labeler_that_is_always_right(finished: tuple[Config, Path]) -> None:
    config, path = finished
    rows = read_claims(path / f"{TABLE}.parquet")
    table = ask(config, rows, {key(row): 0.75 if row["truth"] else 0.25 for row in rows})
    figures, _ = Audit.open(path, 60, 0).figures()
    wrong = sum(row["verdict"] != row["truth"] for row in rows)
    assert wrong > 0
    assert table["labeler"] == ["synthetic", config.labeler.model] and table["claims"] == ["57", "57"]
    ours, _, _, theirs, *_ = table["agreement with people"]
    assert (ours, theirs) == (f"{100 * (figures['agreement'] or 0):.1f}%", "100.0%")
    assert table["Cohen's kappa"][3] == "1.00" and table["false claims accepted"][3] == "0.0%"
    assert table["Brier score of p_yes"][1] == "0.0625"
    assert table["right where the two differ"] == ["0", str(wrong)]
    assert table["change of agreement, points"][0] == f"{100 - 100 * (figures['agreement'] or 0):.1f}%"


def test_a_labeler_that_accepts_all_and_cannot_take_some(finished: tuple[Config, Path]) -> None:
    config, path = finished
    rows = read_claims(path)
    skipped = {key(row) for row in rows[:5]}
    table = ask(config, rows, {key(row): 0.9 for row in rows if key(row) not in skipped})
    left = sum(key(row) in skipped for row in rows)
    assert table["without a verdict"] == ["0", str(left)]
    assert table["false claims accepted"][3] == "100.0%" and table["true claims rejected"][3] == "0.0%"
    assert table["Cohen's kappa"][3] == "0.00"


def test_it_gets_the_question_or_the_claim(finished: tuple[Config, Path]) -> None:
    """As the labeler of the run did, or the claim always where its configuration says so."""
    config, path = finished
    first, second, *_ = ({**row, "truth": True, "verdict": True} for row in read_claims(path))
    second["outcome"] = "restated"
    statements = [(row["image"]["bytes"], WORDING.format_statement(row["claim"])) for row in (first, second)]
    assert ask(config, [first, second], {key(first): 0.9, statements[1]: 0.9})["without a verdict"] == ["0", "0"]
    feedback = config.feedback.model_copy(update={"verify": "statement"})
    always = config.model_copy(update={"feedback": feedback})
    assert ask(always, [first, second], dict.fromkeys(statements, 0.9))["without a verdict"] == ["0", "0"]


def test_a_labeler_that_takes_nothing(finished: tuple[Config, Path]) -> None:
    """Of a few claims; of more, the engine itself says that the labeler cannot do its work."""
    with pytest.raises(InputError, match=r"has no verdict on any of 5 claims; use another labeler"):
        ask(finished[0], read_claims(finished[1])[:5], {})


def test_bad_input_is_one_line(
    finished: tuple[Config, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, lines = finished[1], []
    for config in ("configs/demo.yaml", "none"):
        assert read_back.main(["--config", config, "--audits", str(tmp_path)]) == 2
        lines.append(capsys.readouterr().err)
    for name in ("claims", "pairs", "prompts"):
        (tmp_path / f"{name}.parquet").symlink_to(path / f"{name}.parquet")
    assert export.main(["--run", str(tmp_path)]) == 2
    lines.append(capsys.readouterr().err)
    shutil.copy(path / "audits.parquet", tmp_path)
    assert export.main(["--run", str(tmp_path)]) == 2
    lines.append(capsys.readouterr().err)
    expected = (
        f"audited_claims.parquet is missing; first run `make export-audit RUN={tmp_path}`",
        "no configuration file",
        f"has no audited claim that people agree on; first run `make audit RUN={tmp_path}`",
        "has audits.parquet, but not audit.json",
    )
    for line, part in zip(lines, expected, strict=True):
        assert line.startswith("error: ") and line.count("\n") == 1 and part in line
    assert not (tmp_path / f"{TABLE}.parquet").exists()
