"""Reading tables: parts, filters, damaged files, provenance."""

from pathlib import Path

import pandas
import pytest

from rlaif.errors import InputError
from rlaif.storage.run import Run
from rlaif.storage.tables import count_rows, read_metadata, read_parts, read_rows
from rlaif.storage.writer import TableWriter
from tests.support.pair_rows import open_run, score_rows


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path)


def test_parts_are_read_one_at_a_time_and_an_empty_table_has_one(run: Run) -> None:
    with TableWriter(run, "scores", key="prompt_id", part_rows=2) as writer:
        for prompt in "ab":
            writer.write(score_rows(prompt))
    names = ["score", "prompt_id"]
    assert [part.to_pydict() for part in read_parts(run, "scores", names)] == [
        {"score": [0.0, -1.0], "prompt_id": [prompt] * 2} for prompt in "ab"
    ]
    assert TableWriter(run, "pairs", key="prompt_id").finish() == 0
    (part,) = read_parts(run, "pairs", ["prompt_id"])
    assert (part.num_rows, part.schema.names) == (0, ["prompt_id"])


def test_a_table_whose_bytes_changed_is_refused(run: Run) -> None:
    with TableWriter(run, "scores", key="prompt_id") as writer:
        writer.write(row for prompt in range(100) for row in score_rows(str(prompt)))
    content = bytearray(writer.path.read_bytes())
    content[300] ^= 1
    writer.path.write_bytes(content)
    with pytest.raises(InputError, match=r"scores\.parquet is damaged .*CRC.*; delete it and run `make feedback RUN="):
        list(read_rows(run, "scores"))


def test_damaged_and_foreign_files(run: Run) -> None:
    path = run.path / "scores.parquet"
    path.write_bytes(b"not parquet at all")
    with pytest.raises(InputError, match=r"scores.parquet is damaged .*delete it and run `make feedback RUN="):
        count_rows(run, "scores")
    pandas.DataFrame({"response_id": ["a"]}).to_parquet(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + b"\xff" * 32 + whole[-8:])  # a footer that cannot be decoded
    with pytest.raises(InputError, match=r"^[^\n]*scores.parquet is damaged [^\n]*; delete it and run"):
        count_rows(run, "scores")
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r"has no column 'score'; it has: response_id; delete it and run `make feedba"):
        list(read_rows(run, "scores", ["score"]))
    with pytest.raises(InputError, match="was not written by this project"):
        read_metadata(run, "scores")


def test_the_metadata_of_a_table_has_its_provenance(tmp_path: Path) -> None:
    run = open_run(tmp_path, score="rejected_count")
    TableWriter(run, "scores", key="prompt_id").finish()
    metadata = read_metadata(run, "scores")
    assert (metadata["table"], metadata["stage"], metadata["config"], metadata["inputs"]) == (
        "scores",
        "feedback",
        {"score": "rejected_count"},
        {},
    )
    assert metadata["identity"] == run.identity("scores")
    assert metadata["versions"]["pyarrow"]
    assert metadata["code_version"].startswith("0.1.0+")
    assert metadata["created"]
