"""Pairs read at their locations: the rows of the table, in its order, in every process, with little in memory."""

import multiprocessing
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dpo.pair_reader import PAIR_COLUMNS, PairReader, locate_pairs
from rlaif.config import Config
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from tests.support.pair_rows import varied_pairs, write_pairs

Row = dict[str, Any]


class Picky:
    """A collator that refuses every third pair."""

    processor: Any = None

    def __call__(self, rows: Sequence[Row]) -> Row:
        raise AssertionError("nothing is collated here")

    def unusable(self, row: Row) -> tuple[str, str] | None:
        number = int(row["rejected"][0]["content"].split()[-1])
        return ("third", f"pair {number}") if number % 3 == 2 else None


@pytest.fixture
def run(tmp_path: Path) -> Run[Config]:
    """Twelve pairs of split train and, between them, four of split validation, in row groups of five."""
    config = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}})
    write_pairs(tmp_path, config, [*varied_pairs(5), *varied_pairs(4, "validation"), *varied_pairs(12)[5:]])
    table = pq.read_table(tmp_path / "pairs.parquet")
    pq.write_table(table, tmp_path / "pairs.parquet", row_group_size=5)
    run = Run(tmp_path, config, "dpo")
    assert run.begin(["policy"], {}, inputs=["pairs"])
    return run


def test_usable_pairs_are_located_in_order_and_the_others_dropped(run: Run[Config]) -> None:
    located = locate_pairs(run, "train", Picky())
    assert located.column_names == ["pair_id", "group", "row", "prompt"]
    expected = [("train-0", 0, 0, 0), ("train-1", 0, 1, 1), ("train-3", 0, 3, 3), ("train-4", 0, 4, 4)]
    expected += [("train-6", 2, 0, 6), ("train-7", 2, 1, 7), ("train-9", 2, 3, 9), ("train-10", 2, 4, 10)]
    assert [tuple(row.values()) for row in located.to_list()] == expected
    assert run.dropped() == {f"train-{number}": "third" for number in (2, 5, 8, 11)}


def test_pairs_of_a_prompt_come_in_one_batch(tmp_path: Path) -> None:
    config = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}})
    rows = [{**row, "prompt_id": prompt} for row, prompt in zip(varied_pairs(6), "abbcac", strict=True)]
    write_pairs(tmp_path, config, rows)
    run = Run(tmp_path, config, "dpo")
    assert run.begin(["policy"], {}, inputs=["pairs"])
    orders = [locate_pairs(run, "train", Picky(), batch_size)["pair_id"] for batch_size in (None, 2)]
    assert [list(order) for order in orders] == [
        ["train-0", "train-1", "train-3", "train-4"],
        ["train-0", "train-4", "train-1", "train-3"],
    ]


def test_rows_at_locations_are_those_of_the_table(run: Run[Config]) -> None:
    located = locate_pairs(run, "train", Picky())
    whole = {row["pair_id"]: row for row in read_rows(run, "pairs")}
    order = [7, 0, 4, 0]
    read = PairReader(run.path / "pairs.parquet")
    assert read([located[index] for index in order]) == [
        {name: whole[located[index]["pair_id"]][name] for name in PAIR_COLUMNS} for index in order
    ]


def test_a_second_try_finds_the_same_file(run: Run[Config]) -> None:
    """TRL caches log-probs of the reference under a key that includes the file's modification time."""
    first = locate_pairs(run, "train", Picky())
    file = Path(first.cache_files[0]["filename"])
    os.utime(file, (1, 1))
    again = locate_pairs(run, "train", Picky())
    assert file.stat().st_mtime == 1 and again.to_list() == first.to_list()
    file.write_bytes(file.read_bytes()[:-8] + b"12345678")  # damaged, or of other pairs
    assert locate_pairs(run, "train", Picky()).to_list() == first.to_list()


def test_other_processes_read_with_a_handle_of_their_own(run: Run[Config]) -> None:
    read = PairReader(run.path / "pairs.parquet")
    locations = [{"group": group, "row": row} for group, row in ((0, 1), (2, 3))]
    expected = read(locations)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(read, [locations] * 8) == [expected] * 8
    assert pickle.loads(pickle.dumps(read))(locations) == expected


def test_a_rewritten_file_is_read_again(run: Run[Config]) -> None:
    file = run.path / "pairs.parquet"
    read, location = PairReader(file), [{"group": 0, "row": 0}]
    before = read(location)
    table = pq.read_table(file)
    pq.write_table(table.slice(1), file)
    os.utime(file, ns=(2, 2))
    assert read(location) != before
