"""An audit of a run: answered by the scenes' truth it finds what `make evaluate` finds; nothing is lost."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from browser.tables import open_run
from evaluation.audit.figures import FALSE, TRUE, UNCLEAR
from evaluation.audit.store import EQUAL, SAMPLE, TABLE, Audit, AuditError, read_verdicts
from evaluation.labeler_quality import labeler_counts, labeler_figures
from evaluation.statistics import total
from rlaif.config import Config
from rlaif.errors import InputError
from rlaif.storage.files import read_json, write_json
from rlaif.storage.run import Run
from tests.support.runs.audited import answers_by_truth, assert_contains
from tests.support.synthetic_run import make_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    return make_run(tmp_path_factory.mktemp("audit"))


@pytest.fixture
def run(finished: tuple[Config, Path], tmp_path: Path) -> Path:
    """The tables of a run, without an audit."""
    for file in finished[1].glob("*.parquet"):
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_audit_by_the_truth_finds_the_labelers_accuracy(finished: tuple[Config, Path], run: Path, seed: int) -> None:
    config, path = finished
    opened = Run(path, config, "evaluate")
    expected = labeler_figures(total(labeler_counts(opened)))
    audit = Audit.open(run, 100, seed)
    assert len(audit.sample["claims"]) == 100
    for kind, item, said in answers_by_truth(audit, opened, "truth"):
        audit.record(kind, item, said, "truth", 1.5)
    figures, intervals = audit.figures()
    assert_contains(intervals, expected)
    assert figures["people"] == 1 and figures["judged"] == 100


def test_verdicts_are_saved_one_by_one_and_the_last_one_counts(run: Path) -> None:
    audit = Audit.open(run, 20, 0)
    first, second, *_ = audit.open_items("claim", "Ann")
    audit.record("claim", first, TRUE, "Ann", 2.0)
    audit.record("claim", first, FALSE, " Ann ", 1.0)
    audit.record("claim", first, TRUE, "李雷", 3.0)
    again = Audit.open(run, 20, 0)  # as after a kill
    assert again.answers("claim") == {first: {"Ann": FALSE, "李雷": TRUE}}
    assert again.open_items("claim", "Ann")[0] == second
    assert again.people() == ["Ann", "李雷"]
    assert len(list(read_verdicts(run))) == 3


def test_a_history_is_in_the_order_of_the_last_answers(run: Path) -> None:
    audit = Audit.open(run, 20, 0)
    first, second, *_ = audit.open_items("claim", "Ann")
    for item, answer in ((first, TRUE), (second, FALSE), (first, UNCLEAR)):
        audit.record("claim", item, answer, "Ann", 1.0)
    audit.record("pair", audit.sample["pairs"][0], EQUAL, "Bob", 1.0)
    assert list(audit.history("Ann").items()) == [(("claim", second), FALSE), (("claim", first), UNCLEAR)]
    assert audit.history("Eve") == {}


def test_several_people_at_once_lose_nothing(run: Path) -> None:
    audit = Audit.open(run, 20, 0)

    def answer(person: str) -> None:
        for item in audit.open_items("claim", person):
            audit.record("claim", item, TRUE, person, 0.1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(answer, ["a", "b", "c", "d"]))
    assert len(list(read_verdicts(run))) == 4 * 20
    figures, _ = audit.figures()
    assert figures["people"] == 4


def test_a_larger_audit_contains_the_smaller_one(run: Path) -> None:
    audit = Audit.open(run, 10, 0)
    item = audit.sample["claims"][0]
    audit.record("claim", item, TRUE, "a", 1.0)
    larger = Audit.open(run, 30, 0)
    assert set(audit.sample["claims"]) < set(larger.sample["claims"])
    assert larger.answers("claim") == {item: {"a": TRUE}}
    assert Audit.open(run, 10, 0).sample["count"] == 30


def test_an_audit_of_another_sample_is_kept(run: Path) -> None:
    audit = Audit.open(run, 10, 0)
    audit.record("claim", audit.sample["claims"][0], TRUE, "a", 1.0)
    before = (run / TABLE).read_bytes()
    with pytest.raises(AuditError, match=r"has an audit of another sample \(seed 0, .* give SEED=0, or move"):
        Audit.open(run, 10, 1)
    sample = read_json(run / "audit.json")
    write_json(run / "audit.json", sample | {"sample": "of other tables"})
    with pytest.raises(AuditError, match="tables that are there now"):
        Audit.open(run, 10, 0)
    assert (run / TABLE).read_bytes() == before


def test_without_a_seed_an_audit_is_gone_on_with(run: Path) -> None:
    assert Audit.open(run, 10).sample["seed"] == 0  # the synthetic run has none
    (run / SAMPLE).unlink()
    drawn = Audit.open(run, 10, 7).sample["claims"]
    assert Audit.open(run, 10).sample["claims"] == drawn


def test_the_seed_of_the_run_is_the_default(finished: tuple[Config, Path], run: Path) -> None:
    table = pq.read_table(finished[1] / "claims.parquet")
    provenance = json.loads(table.schema.metadata[b"rlaif"])
    provenance["config"]["seed"] = 3
    (run / "claims.parquet").unlink()
    changed = table.replace_schema_metadata({**table.schema.metadata, b"rlaif": json.dumps(provenance).encode()})
    pq.write_table(changed, run / "claims.parquet")
    assert Audit.open(run, 10).sample["seed"] == 3


CHANGED: list[tuple[list[str | int], object]] = [
    (["claims"], 5),
    (["claims", 0], None),
    (["count"], "9"),
    (["seed"], "x"),
    (["claim_strata", 0], {}),
    (["pair_strata"], None),
]


@pytest.mark.parametrize(("place", "value"), CHANGED)
def test_a_sample_with_a_value_of_another_kind_is_damaged(run: Path, place: list[str | int], value: object) -> None:
    sample: Any = Audit.open(run, 10, 0).sample
    within = sample
    for key in place[:-1]:
        within = within[key]
    within[place[-1]] = value
    write_json(run / SAMPLE, sample)
    name = r"\.".join(map(str, place))
    for read in (lambda: Audit.open(run, 10, 0), lambda: Audit.read(run)):
        with pytest.raises(InputError, match=rf"audit\.json is damaged \(it has no valid {name}.*\); restore a copy"):
            read()


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"sample": "x", "seed": 0}'])
def test_a_damaged_sample_is_not_deleted(run: Path, content: str) -> None:
    audit = Audit.open(run, 10, 0)
    audit.record("claim", audit.sample["claims"][0], TRUE, "a", 1.0)
    whole = (run / SAMPLE).read_text()
    (run / SAMPLE).write_text(content)
    with pytest.raises(
        InputError, match=r"audit\.json is damaged \(it .*\); restore a copy .* keep audits\.parquet"
    ) as error:
        Audit.open(run, 10, 0)
    assert "delete" not in str(error.value) and "keep audits.parquet" in str(error.value)
    (run / SAMPLE).unlink()  # as the message says
    assert Audit.open(run, 10, 0).answers("claim") == audit.answers("claim")
    assert read_json(run / SAMPLE)["claims"] == json.loads(whole)["claims"]


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing", b"PAR1" * 100])
def test_damaged_verdicts_are_not_deleted(run: Path, content: bytes) -> None:
    Audit.open(run, 10, 0)
    (run / TABLE).write_bytes(content)
    with pytest.raises(InputError, match=r"audits\.parquet is damaged .*; restore a copy of it, or move it") as error:
        Audit.open(run, 10, 0)
    assert "delete" not in str(error.value) and (run / TABLE).read_bytes() == content


@pytest.mark.parametrize("table", ["claims", "pairs"])
def test_where_a_damaged_table_has_been_audited_a_copy_is_asked_for(run: Path, table: str) -> None:
    """Written again it would be another table, for which no verdict counts."""
    audit = Audit.open(run, 10, 0)
    for file in run.glob("*.parquet"):
        content = b"PAR1 nothing" if file.stem == table else file.read_bytes()
        file.unlink()  # a link
        file.write_bytes(content)
    with pytest.raises(InputError, match=rf"{table}\.parquet is damaged .*; delete it and run `make feedback RUN="):
        open_run(run)
    audit.record("claim", audit.sample["claims"][0], TRUE, "a", 1.0)
    remedy = rf"{table}\.parquet is damaged .*; restore a copy of it, as people's verdicts in .*; or delete it and run"
    for read in (lambda: Audit.open(run, 10, 0), lambda: open_run(run)):
        with pytest.raises(InputError, match=remedy):
            read()


@pytest.mark.parametrize(
    ("kind", "answer", "person", "message"),
    [
        ("claim", "maybe", "a", r"the answer is 'maybe', expected one of true, false, cannot tell, not of this"),
        ("pair", "true", "a", r"the answer is 'true', expected one of first, second, equal, cannot tell"),
        ("claim", TRUE, " ", "the person has no name"),
    ],
)
def test_what_is_no_verdict_is_refused(run: Path, kind: str, answer: str, person: str, message: str) -> None:
    audit = Audit.open(run, 10, 0)
    item = audit.sample[f"{kind}s"][0]
    with pytest.raises(AuditError, match=message):
        audit.record(kind, item, answer, person, 1.0)  # type: ignore[arg-type]
    with pytest.raises(AuditError, match="is not in the sample of this audit"):
        audit.record("claim", "other", TRUE, "a", 1.0)
    assert not (run / TABLE).exists()
