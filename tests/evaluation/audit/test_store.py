"""An audit of a run: answered by the scenes' truth it finds what `make evaluate` finds; nothing is lost."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evaluation.audit.figures import FALSE, TRUE, UNCLEAR
from evaluation.audit.store import FIRST, SECOND, TABLE, Audit, AuditError, read_verdicts
from evaluation.labeler_quality import labeler_counts, labeler_figures
from evaluation.statistics import total
from evaluation.truth import truth_of
from rlaif.config import Config
from rlaif.storage.files import read_json, write_json
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
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


def answer_by_truth(audit: Audit, run: Run[Config], person: str = "truth") -> None:
    prompts = {row["prompt_id"]: truth_of(row["source"], row["reference"]) for row in read_rows(run, "prompts")}
    claims = {row["claim_id"]: row for row in read_rows(run, "claims", ["claim_id", "prompt_id", "claim"])}
    pairs = {row["pair_id"]: row for row in read_rows(run, "pairs", ["pair_id", "prompt_id", "chosen", "rejected"])}
    for claim_id in audit.open_items("claim", person):
        truth = prompts[claims[claim_id]["prompt_id"]]
        assert truth is not None
        said = {True: TRUE, False: FALSE, None: UNCLEAR}[truth.claim_is_true(claims[claim_id]["claim"])]
        audit.record("claim", claim_id, said, person, 1.5)
    for pair_id in audit.open_items("pair", person):
        truth = prompts[pairs[pair_id]["prompt_id"]]
        assert truth is not None
        chosen, rejected = (
            truth.check_mentions(pairs[pair_id][side][0]["content"]).count(False) for side in ("chosen", "rejected")
        )
        said = "equal"
        if chosen != rejected:
            said = FIRST if (chosen < rejected) == audit.is_chosen_first(pair_id) else SECOND
        audit.record("pair", pair_id, said, person, 1.5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_audit_by_the_truth_finds_the_labelers_accuracy(finished: tuple[Config, Path], run: Path, seed: int) -> None:
    config, path = finished
    opened = Run(path, config, "evaluate")
    expected = labeler_figures(total(labeler_counts(opened)))
    audit = Audit.open(run, 100, seed)
    assert len(audit.sample["claims"]) == 100
    answer_by_truth(audit, opened)
    figures, intervals = audit.figures()
    for name, reported in (("agreement", "claim_accuracy"), ("pair_agreement",) * 2, ("pair_ties",) * 2):
        low, high = intervals[name] or []
        value = expected[reported]
        assert value is not None and low <= value <= high, (name, value, low, high)
        assert high - low < 0.35
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
    assert len(list(read_verdicts(run))) == 3


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
