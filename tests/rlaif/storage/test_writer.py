"""Writing tables in parts: what a kill leaves behind, what a resumed writer keeps, images stored once."""

from pathlib import Path
from random import Random

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaif.errors import InputError, RunMismatchError
from rlaif.storage.run import Run
from rlaif.storage.schemas import SCHEMAS
from rlaif.storage.tables import count_rows, read_rows
from rlaif.storage.writer import TableWriter
from tests.support.pair_rows import open_run, pair_row, score_rows


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path)


def test_rows_are_read_in_order_from_many_parts(run: Run) -> None:
    with TableWriter(run, "scores", key="prompt_id", part_rows=4) as writer:
        for prompt in "abcde":
            writer.write(score_rows(prompt))
        assert [path.name for path in sorted(writer.parts.glob("part-*"))] == [
            "part-00000.parquet",
            "part-00001.parquet",
        ]
        with pytest.raises(InputError, match=r"scores.parquet is missing; first run `make feedback RUN=.*run`"):
            count_rows(run, "scores")
    assert not writer.parts.exists()
    assert count_rows(run, "scores") == 10
    assert list(read_rows(run, "scores")) == [row for prompt in "abcde" for row in score_rows(prompt)]
    assert list(read_rows(run, "scores", ["score"], filter={"prompt_id": "c"})) == [{"score": 0.0}, {"score": -1.0}]
    assert len(list(read_rows(run, "scores", ["score"], filter={"prompt_id": ["c", "a", "no"]}))) == 4
    assert list(pandas.read_parquet(writer.path)["num_rejected"]) == [0, 1] * 5


def test_a_killed_writer_leaves_complete_parts_and_the_next_resumes(tmp_path: Path) -> None:
    killed = TableWriter(open_run(tmp_path), "scores", key="prompt_id")
    killed.write(score_rows("a"))
    killed.flush()
    killed.write(score_rows("b"))  # never flushed: lost
    (killed.parts / ".part-00001.parquet.tmp").write_bytes(b"half a part")

    run = open_run(tmp_path)
    with TableWriter(run, "scores", key="prompt_id") as writer:
        assert writer.done == {"a"}
        for prompt in "bc":
            writer.write(score_rows(prompt))
    assert [row["prompt_id"] for row in read_rows(run, "scores")] == ["a", "a", "b", "b", "c", "c"]


def test_a_part_that_is_not_in_the_manifest_is_written_again(tmp_path: Path) -> None:
    killed = TableWriter(open_run(tmp_path), "scores", key="prompt_id", part_rows=1)
    killed.write(score_rows("a"))
    listed = (killed.parts / "manifest.json").read_bytes()
    killed.write(score_rows("b"))
    (killed.parts / "manifest.json").write_bytes(listed)  # killed after part-00001 had its name, before it was listed

    again = TableWriter(open_run(tmp_path), "scores", key="prompt_id", part_rows=1)
    assert again.done == {"a"}
    assert sorted(path.name for path in again.parts.iterdir()) == ["manifest.json", "part-00000.parquet"]


def test_parts_ahead_of_a_later_table_are_written_again(tmp_path: Path) -> None:
    killed = TableWriter(open_run(tmp_path), "scores", key="prompt_id", part_rows=1)
    for prompt in "abc":
        killed.write(score_rows(prompt))
    again = TableWriter(open_run(tmp_path), "scores", key="prompt_id", limit_to={"a"}, part_rows=1)
    assert again.done == {"a"}
    again.write(score_rows("b"))
    assert again.finish() == 4


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_part_whose_bytes_changed_is_refused(harm: str, tmp_path: Path) -> None:
    killed = TableWriter(open_run(tmp_path), "scores", key="prompt_id", part_rows=1)
    killed.write(score_rows("a"))
    part = killed.parts / "part-00000.parquet"
    content = bytearray(part.read_bytes())
    content[10] ^= 1
    part.unlink()
    if harm != "remove":
        part.write_bytes(content if harm == "flip" else content[:50])
    with pytest.raises(
        InputError, match=r"part-00000\.parquet is missing, or its bytes have changed .*; restore it, or delete .*parts"
    ):
        TableWriter(open_run(tmp_path), "scores", key="prompt_id")


def test_the_key_can_be_two_columns(tmp_path: Path) -> None:
    killed = TableWriter(open_run(tmp_path), "scores", key="prompt_id")
    killed.write(score_rows("a") + score_rows("b", 1))
    killed.flush()
    writer = TableWriter(open_run(tmp_path), "scores", key=("prompt_id", "num_rejected"))
    assert writer.done == {("a", 0), ("a", 1), ("b", 0)}


def test_write_table_checks_columns_as_write_does(run: Run) -> None:
    with TableWriter(run, "scores", key="prompt_id") as writer:
        writer.write_table(pa.Table.from_pylist(score_rows("a"), schema=SCHEMAS["scores"]))
        writer.write(score_rows("b"))
        missing = pa.Table.from_pylist([row | {"score": None} for row in score_rows("c")], schema=SCHEMAS["scores"])
        with pytest.raises(ValueError, match="table scores: column 'score' is None; it needs a value"):
            writer.write_table(missing)
    assert list(read_rows(run, "scores")) == score_rows("a") + score_rows("b")


def test_an_error_in_the_block_keeps_the_parts_and_writes_no_table(run: Run) -> None:
    with pytest.raises(RuntimeError), TableWriter(run, "scores", key="prompt_id", part_rows=1) as writer:
        writer.write(score_rows("a"))
        raise RuntimeError
    assert not writer.path.exists()
    assert len(list(writer.parts.glob("part-*"))) == 1


def test_the_keys_of_a_finished_table_are_done(tmp_path: Path) -> None:
    with TableWriter(open_run(tmp_path), "scores", key="prompt_id") as writer:
        writer.write(score_rows("a"))
    writer.parts.mkdir()  # killed between the rename and the removal of the parts
    with TableWriter(open_run(tmp_path), "scores", key="prompt_id") as again:
        assert again.done == {"a"}
    assert again.finish() == 2
    assert not again.parts.exists()


def test_an_empty_table_has_its_columns(run: Run) -> None:
    assert TableWriter(run, "scores", key="prompt_id").finish() == 0
    assert pq.read_schema(run.path / "scores.parquet").names == SCHEMAS["scores"].names
    assert list(read_rows(run, "scores")) == []


def test_parts_of_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    writer = TableWriter(open_run(tmp_path, score="a"), "scores", key="prompt_id")
    writer.write(score_rows("a"))
    writer.flush()
    (tmp_path / "run" / "feedback.json").unlink()
    with pytest.raises(RunMismatchError, match=r"part-00000.parquet was made with other settings; use another RUN="):
        TableWriter(open_run(tmp_path, score="b"), "scores", key="prompt_id")


def test_rows_that_do_not_fit_the_schema(run: Run) -> None:
    writer = TableWriter(run, "scores", key="prompt_id")
    (row,) = score_rows("a", 1)
    with pytest.raises(ValueError, match=r"table scores: missing columns \['score'\], unknown columns \['points'\]"):
        writer.write([{"points" if name == "score" else name: value for name, value in row.items()}])
    with pytest.raises(ValueError, match="table scores: column 'score' is None; it needs a value"):
        writer.write([row | {"score": None}])
    assert writer.finish() == 0


@pytest.mark.parametrize(("prompts", "image_bytes"), [(30, 200_000), (800, 4_000)])
def test_an_image_is_stored_once_for_all_pairs_of_a_prompt(run: Run, prompts: int, image_bytes: int) -> None:
    """800 prompts: parquet writes 1,024 rows at a time, and by default gives up its dictionary at 1 MB after them."""
    random = Random(0)
    images_by_prompt = {f"prompt-{index}": random.randbytes(image_bytes) for index in range(prompts)}
    with TableWriter(run, "pairs", key="prompt_id") as writer:
        for prompt_id, image in images_by_prompt.items():
            images = [{"bytes": image, "path": "a.png"}]
            pairs = (pair_row(f"{prompt_id}-{index}", "?", "yes", "no") for index in range(2))
            writer.write(row | {"prompt_id": prompt_id, "images": images} for row in pairs)
        writer.flush()
        (part,) = writer.parts.glob("*.parquet")
        stored_once = prompts * image_bytes
        assert stored_once < part.stat().st_size < 1.1 * stored_once
    assert stored_once < writer.path.stat().st_size < 1.1 * stored_once

    stored = list(read_rows(run, "pairs", ["prompt_id", "images"]))
    assert [row["prompt_id"] for row in stored] == [prompt_id for prompt_id in images_by_prompt for _ in range(2)]
    assert all(row["images"] == [{"bytes": images_by_prompt[row["prompt_id"]], "path": "a.png"}] for row in stored)
    read = pandas.read_parquet(writer.path, columns=["images"])
    assert [image[0]["bytes"] for image in read["images"]] == [row["images"][0]["bytes"] for row in stored]
