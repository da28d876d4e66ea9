"""The pairs of a small run, held against what the first, plain version made of it; and that it is read as a stream."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedback.stage import make_pairs
from feedback.summary import Summary
from rlaif.errors import InputError
from rlaif.storage.join import PROMPTS_AT_ONCE, join_by_prompt, join_parts
from rlaif.storage.tables import read_rows
from tests.support.small_run import write_labelled_run

DRAWN = """
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
    ("p06", "single_response", "1 different scored responses"),
    ("p08", "single_response", "0 different scored responses"),
    ("p09/3", "equal_text", "same text as p09/2"),
    ("p10", "all_scores_equal", "5 responses score -0"),
]


@pytest.mark.parametrize("part_rows", [7, 1000])
@pytest.mark.parametrize(
    ("balance", "expected", "digest", "words_chosen", "words_rejected"),
    [
        (False, DRAWN, "ef9654c3ce1d6f656ae52fc3ab90d8aa7a2effec2cafce998d590cf9edd466b5", 218, 306),
        (True, BALANCED, "bfdd762c320a8e0886512b7f0ec5dd1b7d1ac8f942ec0a99fb906cb16885788b", 234, 273),
    ],
)
def test_the_same_pairs_as_ever(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part_rows: int,
    balance: bool,
    expected: str,
    digest: str,
    words_chosen: int,
    words_rejected: int,
) -> None:
    monkeypatch.setattr("rlaif.storage.join.PROMPTS_AT_ONCE", 5)
    monkeypatch.setattr("feedback.stage.PAIRS_AT_ONCE", 3)
    run = write_labelled_run(tmp_path / "run", part_rows=part_rows, balance_length=balance)
    summary, count = make_pairs(run)
    run.finish({"pairs": count}, None)
    rows = list(read_rows(run, "pairs"))
    assert [f"{row['chosen_response_id']}>{row['rejected_response_id']}" for row in rows] == expected.split()
    # every column of every row: images, messages, scores, claims with their probabilities, rounds, splits
    assert hashlib.sha256(json.dumps(rows, default=repr, sort_keys=True).encode()).hexdigest() == digest
    assert [(row["row_id"], row["reason"], row["detail"]) for row in read_rows(run, "dropped")] == DROPPED
    assert summary == Summary(46, 141, 61, 26, pytest.approx(36.12936507936509), 16, words_chosen, words_rejected)


def test_a_row_by_hand(tmp_path: Path) -> None:
    run = write_labelled_run(tmp_path / "run")
    make_pairs(run)
    row = next(read_rows(run, "pairs"))
    assert row["images"] == [{"bytes": b"image of p00", "path": "p00.png"}]
    assert row["prompt"] == [{"role": "user", "content": "Describe p00."}]
    texts = {one["response_id"]: one["text"] for one in read_rows(run, "responses")}
    assert row["chosen"] == [{"role": "assistant", "content": texts["p00/3"]}]
    assert (row["round"], row["split"]) == (2, "train")
    own = [claim for claim in read_rows(run, "claims") if claim["response_id"] == "p00/0"]
    assert row["rejected_claims"] == [
        {name: claim[name] for name in ("claim", "question", "p_yes", "p_no", "verdict")} for claim in own
    ]


def test_a_score_without_its_response(tmp_path: Path) -> None:
    run = write_labelled_run(tmp_path / "run")
    path = run.path / "responses.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pa.array([name != "p03/2" for name in table["response_id"].to_pylist()])), path)
    with pytest.raises(InputError, match=r"scores.parquet does not fit responses.parquet: response p03/2 is not there"):
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


def test_no_more_is_read_than_some_prompts_need() -> None:
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
    run = write_labelled_run(tmp_path / "run")
    assert make_pairs(run) == (Summary(), 0)
