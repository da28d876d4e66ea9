"""The pairs of a small run: which ones, with every column of each row, read and written as a stream."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedback.pair_table import VERIFIED_COLUMNS
from feedback.stage import make_pairs
from feedback.summary import Summary
from rlaif.errors import InputError
from rlaif.storage.files import make_id
from rlaif.storage.join import PROMPTS_AT_ONCE, join_by_prompt, join_parts
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from rlaif.storage.writer import TableWriter
from tests.support.small_run import write_labeled_run

SAMPLED = """
p00/3>p00/0 p00/2>p00/1 p01/1>p01/4 p01/0>p01/2 p02/2>p02/0 p02/1>p02/4 p03/1>p03/4 p03/2>p03/3
p05/2>p05/4 p05/4>p05/1 p07/3>p07/2 p07/1>p07/2 p09/1>p09/4 p09/2>p09/0 p11/4>p11/3 p11/1>p11/3
"""
BALANCED = """
p00/2>p00/1 p00/1>p00/3 p01/0>p01/4 p01/1>p01/2 p02/2>p02/4 p02/1>p02/3 p03/2>p03/3 p03/1>p03/4
p05/2>p05/4 p05/4>p05/1 p07/4>p07/2 p07/3>p07/2 p09/2>p09/4 p09/1>p09/0 p11/0>p11/3 p11/4>p11/1
"""
DROPPED = [
    ("p01/3", "equal_text", "same text as p01/2"),
    ("p05/3", "equal_text", "same text as p05/2"),
    ("p06", "single_response", "1 distinct scored responses"),
    ("p08", "single_response", "0 distinct scored responses"),
    ("p09/3", "equal_text", "same text as p09/2"),
    ("p10", "all_scores_equal", "5 responses score -0"),
]


@pytest.mark.parametrize("part_rows", [7, 1000])
@pytest.mark.parametrize(
    ("balance", "expected", "words_chosen", "words_rejected"), [(False, SAMPLED, 218, 306), (True, BALANCED, 234, 273)]
)
def test_pairs_of_a_small_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part_rows: int,
    balance: bool,
    expected: str,
    words_chosen: int,
    words_rejected: int,
) -> None:
    monkeypatch.setattr("rlaif.storage.join.PROMPTS_AT_ONCE", 5)
    monkeypatch.setattr("feedback.stage.PAIRS_PER_BATCH", 3)
    run = write_labeled_run(tmp_path / "run", part_rows=part_rows, balance_length=balance)
    summary, count = make_pairs(run)
    run.finish({"pairs": count}, None)
    assert list(read_rows(run, "pairs")) == [expected_row(run, *pair.split(">")) for pair in expected.split()]
    assert [(row["row_id"], row["reason"], row["detail"]) for row in read_rows(run, "dropped")] == DROPPED
    margins: Any = pytest.approx(36.12936507936509)
    assert summary == Summary(46, 141, 0, 0, 61, 26, margins, 16, words_chosen, words_rejected)


def expected_row(run: Run[Any], chosen: str, rejected: str) -> dict[str, Any]:
    """A row of `pairs` put together from the other tables, one value at a time."""
    prompt_id = chosen.partition("/")[0]
    (prompt,) = (row for row in read_rows(run, "prompts") if row["prompt_id"] == prompt_id)
    row = {
        "pair_id": make_id(chosen, rejected),
        "prompt_id": prompt_id,
        "images": [prompt["image"]],
        "prompt": [{"role": "user", "content": prompt["instruction"]}],
        "round": 2,
        "split": "train",
    }
    for side, response_id in (("chosen", chosen), ("rejected", rejected)):
        (response,) = (row for row in read_rows(run, "responses") if row["response_id"] == response_id)
        (score,) = (row for row in read_rows(run, "scores") if row["response_id"] == response_id)
        claims = [row for row in read_rows(run, "claims") if row["response_id"] == response_id]
        row |= {
            side: [{"role": "assistant", "content": response["text"]}],
            f"{side}_response_id": response_id,
            f"{side}_score": score["score"],
            f"{side}_claims": [
                {name: claim[name] for name in ("claim", "question", "outcome", "p_yes", "p_no", "verdict")}
                for claim in claims
            ],
        }
    return row


def test_a_row_by_hand(tmp_path: Path) -> None:
    run = write_labeled_run(tmp_path / "run")
    make_pairs(run)
    row = next(read_rows(run, "pairs"))
    assert row["images"] == [{"bytes": b"image of p00", "path": "p00.png"}]
    assert row["prompt"] == [{"role": "user", "content": "Describe p00."}]
    texts = {response["response_id"]: response["text"] for response in read_rows(run, "responses")}
    assert row["chosen"] == [{"role": "assistant", "content": texts["p00/3"]}]
    assert (row["round"], row["split"]) == (2, "train")
    claims = [claim for claim in read_rows(run, "claims") if claim["response_id"] == "p00/0"]
    assert row["rejected_claims"] == [{name: claim[name] for name in VERIFIED_COLUMNS} for claim in claims]


def test_row_groups_are_small_enough_to_be_read_at_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pairs(write_labeled_run(tmp_path / "one"))
    monkeypatch.setattr("feedback.stage.ROW_GROUP_BYTES", 4000)
    make_pairs(write_labeled_run(tmp_path / "several"))
    one, several = (pq.ParquetFile(tmp_path / name / "pairs.parquet") for name in ("one", "several"))
    assert one.num_row_groups == 1 and several.num_row_groups > 2
    groups = [several.read_row_group(group) for group in range(several.num_row_groups)]
    assert all(group.nbytes <= 4000 or group.num_rows == 1 for group in groups)
    assert several.read().equals(one.read())


def test_a_kill_between_two_batches_loses_no_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed, *killed = (write_labeled_run(tmp_path / f"{index}", part_rows=1000) for index in range(4))
    monkeypatch.setattr("feedback.stage.PAIRS_PER_BATCH", 3)  # an odd number, and two pairs per prompt
    monkeypatch.setattr("rlaif.storage.writer.PART_BYTES", 1)  # each batch is a part
    make_pairs(undisturbed)
    expected = list(read_rows(undisturbed, "pairs"))
    written = TableWriter.write_table
    for batches, run in enumerate(killed, start=1):
        calls = iter(range(batches))

        def write_or_die(writer: TableWriter, rows: pa.Table, calls: Iterator[int] = calls) -> None:
            if next(calls, None) is None:
                raise KeyboardInterrupt
            written(writer, rows)

        with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
            context.setattr(TableWriter, "write_table", write_or_die)
            make_pairs(run)
        make_pairs(run)
        assert list(read_rows(run, "pairs")) == expected


def test_a_score_without_its_response_is_an_error(tmp_path: Path) -> None:
    run = write_labeled_run(tmp_path / "run")
    path = run.path / "responses.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pa.array([name != "p03/2" for name in table["response_id"].to_pylist()])), path)
    with pytest.raises(InputError, match=r"response p03/2, which responses\.parquet does not contain; delete"):
        make_pairs(run)


def parts(*names: str) -> list[pa.Table]:
    """A table of the column prompt_id: a letter a row, a name a part."""
    return [pa.table({"prompt_id": pa.array(list(name), pa.string())}) for name in names]


def test_join_follows_prompts() -> None:
    joined = join_by_prompt(parts("ab", "c"), claims=parts("a", "ac", "c"), scores=parts("b"), none=parts(""))
    assert [(p["prompt_id"], len(t["claims"]), len(t["scores"]), len(t["none"])) for p, t in joined] == [
        ("a", 2, 0, 0),
        ("b", 0, 1, 0),
        ("c", 2, 0, 0),
    ]
    with pytest.raises(InputError, match=r"claims\.parquet does not fit prompts.parquet: its prompt b"):
        list(join_by_prompt(parts("a"), claims=parts("b")))
    with pytest.raises(InputError, match="its prompt a"):
        list(join_by_prompt(parts("ab"), claims=parts("ba")))


def test_join_reads_no_further_than_its_prompts_need() -> None:
    names = [f"{index:03}" for index in range(3 * PROMPTS_AT_ONCE)]
    given = 0

    def claims() -> Iterator[pa.Table]:
        nonlocal given
        for name in names:
            given += 1
            yield pa.table({"prompt_id": [name] * 2})

    prompts = [pa.table({"prompt_id": names})]
    for number, (some, tables) in enumerate(join_parts(prompts, claims=claims()), start=1):
        assert some.num_rows == PROMPTS_AT_ONCE
        assert tables["claims"].table.num_rows == 2 * PROMPTS_AT_ONCE
        assert tables["claims"].starts.tolist() == list(range(0, 2 * PROMPTS_AT_ONCE + 1, 2))
        assert given <= number * PROMPTS_AT_ONCE + 1


def test_an_empty_run_has_no_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.small_run.PROMPTS", 0)
    run = write_labeled_run(tmp_path / "run")
    assert make_pairs(run) == (Summary(), 0)
