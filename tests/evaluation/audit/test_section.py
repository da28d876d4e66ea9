"""`make evaluate` on an audited run: with and without an aligned policy or a truth, before and after the audit."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from evaluation.audit.figures import FALSE, TRUE
from evaluation.audit.store import SAMPLE, TABLE, Audit, AuditError
from evaluation.labeler_quality import labeler_counts
from evaluation.stage import evaluate
from evaluation.statistics import total
from rlaif.config import Config, EngineSection, ModelSection
from rlaif.errors import InputError
from rlaif.storage.files import read_json
from rlaif.storage.run import Run
from tests.support.doubles import ScriptedEngine
from tests.support.runs.audited import answers_by_truth, assert_contains
from tests.support.synthetic_run import TRAIN_PROMPTS, make_run

NAMES = {"agreement", "kappa", "false_claims_accepted", "true_claims_rejected", "calibration_error", "covered"}
NAMES |= {"judged", "cannot_tell", "not_of_its_response", "people_kappa", "people"}
NAMES |= {"pair_agreement", "pair_ties", "pairs_judged"}


class Policies:
    """Opens engines that say a fixed sentence, and counts them."""

    def __init__(self) -> None:
        self.opened = 0

    def __call__(self, section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
        self.opened += 1
        return ScriptedEngine(lambda request: ["I can see a blue car."])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    return make_run(tmp_path_factory.mktemp("people"))


@pytest.fixture
def run(finished: tuple[Config, Path], tmp_path: Path) -> tuple[Config, Path]:
    shutil.copytree(finished[1], tmp_path / "run")
    return finished[0], tmp_path / "run"


def answer(run: tuple[Config, Path], count: int = 100, seed: int = 0) -> Audit:
    config, path = run
    audit = Audit.open(path, count, seed)
    for kind, item, said in answers_by_truth(audit, Run(path, config, "test"), "Ann"):
        audit.record(kind, item, said, "Ann", 1.0)
    return audit


def metrics_of(path: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = read_json(path / "metrics.json")
    return metrics


def feedback_again(path: Path) -> None:
    """The claims as another `make feedback` with the same settings writes them."""
    table = pq.read_table(path / "claims.parquet")
    provenance = json.loads(table.schema.metadata[b"rlaif"]) | {"created": "2030-01-01T00:00:00+00:00"}
    metadata = {**table.schema.metadata, b"rlaif": json.dumps(provenance).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path / "claims.parquet")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("aligned", [True, False])
def test_people_who_know_the_truth_find_the_labelers_accuracy(
    run: tuple[Config, Path], capsys: pytest.CaptureFixture[str], aligned: bool, seed: int
) -> None:
    """A stratified sample of 100 claims and all pairs, answered by the scenes' truth."""
    config, path = run
    if not aligned:
        shutil.rmtree(path / "policy")
    answer(run, seed=seed)
    policies = Policies()
    evaluate(config, path, policies)
    metrics = metrics_of(path)
    people, spread = metrics["people"], metrics["intervals"]["people"]
    assert people.keys() == NAMES | {"strata"} and policies.opened == 2 * aligned
    assert ("before" in metrics) == aligned and metrics["labeler"]["claim_accuracy"] is not None
    assert_contains(spread, metrics["labeler"])
    for name in ("false_claims_accepted", "true_claims_rejected"):
        low, high = spread[name]
        assert low <= metrics["labeler"][name] <= high
    assert (people["judged"], people["people"], people["covered"], people["people_kappa"]) == (100, 1, 1.0, None)
    assert sum(row["claims"] for row in people["strata"]) == metrics["labeler"]["claims"]
    assert sum(row["judged"] for row in people["strata"]) == 100
    printed = capsys.readouterr().out
    low, high = spread["agreement"]
    shown = f"{100 * people['agreement']:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"
    assert re.search(rf"^  agreement +{re.escape(shown)}$", printed, re.MULTILINE)
    assert ("the labeler alone" in printed) != aligned


def test_an_audit_after_evaluate_is_counted_without_a_model(run: tuple[Config, Path]) -> None:
    config, path = run
    evaluate(config, path, Policies())
    first = metrics_of(path)
    assert "people" not in first and "people" not in first["intervals"]
    audit = answer(run, 20)
    policies = Policies()
    evaluate(config, path, policies)
    second = metrics_of(path)
    assert not policies.opened and second.pop("people")["judged"] == 20
    assert second["intervals"].pop("people") and second == first
    audit.record("claim", audit.sample["claims"][0], FALSE, "Bob", 1.0)
    evaluate(config, path, policies)
    assert metrics_of(path)["people"]["people"] == 2


def test_without_a_truth_people_are_all_that_the_labeler_is_compared_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, path = make_run(tmp_path, truth=False)
    shutil.rmtree(path / "policy")
    audit = Audit.open(path, 10, 0)
    for item in audit.sample["claims"]:
        audit.record("claim", item, TRUE, "Ann", 1.0)
    evaluate(config, path, Policies())
    metrics = metrics_of(path)
    assert metrics["labeler"]["claim_accuracy"] is None and metrics["people"]["true_claims_rejected"] > 0
    assert metrics["people"]["false_claims_accepted"] is None and metrics["people"]["pair_agreement"] is None
    printed = capsys.readouterr().out
    assert "claim_accuracy" not in printed and f"next     make report RUN={path}" in printed


def test_the_labeler_alone_is_evaluated_by_the_settings_of_its_run(run: tuple[Config, Path]) -> None:
    """Another CONFIG is given than the one that the run is of: before `make dpo` nothing refuses it."""
    config, path = run
    shutil.rmtree(path / "policy")
    answer(run, 20)
    evaluate(config, path, Policies())
    expected = metrics_of(path)
    other = config.feedback.model_copy(update={"pairs_per_prompt": 1})
    evaluate(config.model_copy(update={"seed": 7, "feedback": other}), path, Policies())
    assert metrics_of(path) == expected and expected["labeler"]["whole_response_pairs"] > TRAIN_PROMPTS
    table = pq.read_table(path / "pairs.parquet")  # and by these settings, not by the default ones
    provenance = json.loads(table.schema.metadata[b"rlaif"])
    provenance["config"]["feedback"]["pairs_per_prompt"] = 1
    metadata = {**table.schema.metadata, b"rlaif": json.dumps(provenance).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path / "pairs.parquet")
    assert 0 < total(labeler_counts(Run(path, config, "test")))["baseline pairs"] <= TRAIN_PROMPTS


def test_an_audit_of_other_tables_is_not_counted(run: tuple[Config, Path], capsys: pytest.CaptureFixture[str]) -> None:
    config, path = run
    answer(run, 10)
    evaluate(config, path, Policies())
    assert metrics_of(path)["people"]["judged"] == 10
    before = (path / TABLE).read_bytes()
    feedback_again(path)
    capsys.readouterr()
    evaluate(config, path, Policies())
    metrics = metrics_of(path)
    assert metrics["people"] is None and metrics["intervals"]["people"] is None and metrics["labeler"]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("people: ")]
    assert re.search(r"has an audit of other tables .* move audit\.json and audits\.parquet to another folder", line)
    shutil.rmtree(path / "policy")
    with pytest.raises(AuditError, match=r"written again since, so its verdicts do not count"):
        evaluate(config, path, Policies())
    assert (path / TABLE).read_bytes() == before


def test_an_audit_whose_tables_have_gone_is_not_counted(
    run: tuple[Config, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """What `make feedback` wrote was deleted to start it over; the policy is evaluated as before."""
    config, path = run
    answer(run, 10)
    for name in ("claims.parquet", "scores.parquet", "pairs.parquet", "feedback.json"):
        (path / name).unlink()
    evaluate(config, path, Policies())
    assert "people" not in metrics_of(path) and "before" in metrics_of(path)
    assert re.search(r"^people: .* claims or pairs have gone since", capsys.readouterr().out, re.MULTILINE)


def test_verdicts_without_their_sample_are_not_counted(
    run: tuple[Config, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    config, path = run
    answer(run, 10)
    (path / SAMPLE).unlink()
    evaluate(config, path, Policies())
    assert "people" not in metrics_of(path)
    assert "has audits.parquet, but not audit.json, which says what its verdicts stand for" in capsys.readouterr().out
    Audit.open(path, 10, 0)  # as the message says
    evaluate(config, path, Policies())
    assert metrics_of(path)["people"]["judged"] == 10


def test_an_audit_without_verdicts_is_none(run: tuple[Config, Path]) -> None:
    config, path = run
    Audit.open(path, 10, 0)
    evaluate(config, path, Policies())
    assert "people" not in metrics_of(path)
    shutil.rmtree(path / "policy")
    with pytest.raises(InputError, match="no aligned model"):
        evaluate(config, path, Policies())


@pytest.mark.parametrize("file", [SAMPLE, TABLE])
def test_a_damaged_audit_is_an_error_before_any_answer(run: tuple[Config, Path], file: str) -> None:
    config, path = run
    answer(run, 10)
    (path / file).write_bytes((path / file).read_bytes()[:-20])
    policies = Policies()
    with pytest.raises(InputError, match=rf"{file} is damaged .*; restore a copy of it, or move it"):
        evaluate(config, path, policies)
    assert not policies.opened


def test_an_audit_that_is_open_can_be_read(run: tuple[Config, Path]) -> None:
    """This process has it open; another one may read it and may not open it."""
    path = run[1]
    audit = answer(run, 10)
    script = (
        "import sys\nfrom pathlib import Path\nfrom evaluation.audit.store import Audit\n"
        "audit = Audit.read(Path(sys.argv[1]))\nprint(len(audit.answers('claim')))\n"
        "try:\n    Audit.open(Path(sys.argv[1]), 10, 0)\nexcept ValueError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert int(first) == len(audit.sample["claims"]) == 10
    assert "another process has the audit of" in second


def test_an_audit_that_is_extended_while_it_is_read(run: tuple[Config, Path]) -> None:
    """The sample was read, then another process extended it and saved verdicts on new claims."""
    audit = answer(run, 10)
    earlier = audit.sample
    answer(run, 40)
    figures, _ = Audit(run[1], earlier).figures()
    assert figures["judged"] == 10 and figures["people_kappa"] is None


def test_verdicts_have_the_provenance_of_other_tables(run: tuple[Config, Path]) -> None:
    audit = answer(run, 10)
    metadata = json.loads(pq.read_schema(run[1] / TABLE).metadata[b"rlaif"])
    assert (metadata["table"], metadata["stage"], metadata["identity"]) == ("audits", "audit", audit.sample["sample"])
    assert metadata["inputs"] == audit.sample["tables"] and metadata["config"] == {"seed": 0, "count": 10}
