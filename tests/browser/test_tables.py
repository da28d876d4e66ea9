"""Which folders are runs, and tables that are being written."""

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from browser import tables
from browser.columns import DROPPED, PAIRS, PROMPTS
from browser.tables import Runs, Snapshot, open_run
from rlaif.errors import InputError
from rlaif.storage.run import Run
from rlaif.storage.schemas import SCHEMAS
from rlaif.storage.writer import TableWriter
from tests.support.runs.browsed import CONFIG, generate, write_run
from tests.support.runs.label_rows import prompt_row, response_row


def error_of(path: Path) -> str:
    with pytest.raises(InputError) as error:
        open_run(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_not_a_run(tmp_path: Path) -> None:
    assert "does not exist; create it with `make generate RUN=" in error_of(tmp_path / "nothing")
    (tmp_path / "file").touch()
    assert "is a file, expected the folder of a run" in error_of(tmp_path / "file")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.json").write_text("{}")
    assert "is not a run: it has neither a table (prompts," in error_of(tmp_path / "pictures")
    (tmp_path / "pictures" / "rounds.json").write_text("{}")
    assert f"browse one of them: RUN={tmp_path / 'pictures' / 'round-1'}" in error_of(tmp_path / "pictures")


def test_a_table_without_a_column_is_of_another_version(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    table = pq.read_table(path / "pairs.parquet")
    pq.write_table(table.drop_columns(["round", "split"]), path / "pairs.parquet")
    message = error_of(path)
    assert "pairs.parquet was written by another version (0.1.0+" in message
    assert "and has no column round, split; browse it with the code that wrote it" in message


def test_another_stage_version_is_noted(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    assert open_run(path) == []
    table = pq.read_table(path / "pairs.parquet")
    provenance = json.loads(table.schema.metadata[b"rlaif"]) | {"stage_version": 1}
    metadata = {**table.schema.metadata, b"rlaif": json.dumps(provenance).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path / "pairs.parquet")
    (note,) = open_run(path)
    assert note.startswith("pairs was written by version 1 of feedback, and this code is ")


def test_a_damaged_or_foreign_table(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    (path / "pairs.parquet").write_bytes(b"PAR1 nothing")
    assert "pairs.parquet is damaged (" in error_of(path)
    pq.write_table(SCHEMAS["pairs"].remove_metadata().empty_table(), path / "pairs.parquet")
    assert "was not written by this project" in error_of(path)


def test_a_link_out_of_the_run_is_refused(tmp_path: Path) -> None:
    path, other = write_run(tmp_path / "run"), write_run(tmp_path / "other")
    (path / "pairs.parquet").unlink()
    os.symlink(other / "pairs.parquet", path / "pairs.parquet")
    assert "which is outside" in error_of(path)


def test_the_connection_reads_nothing_outside_the_run(tmp_path: Path) -> None:
    path, other = write_run(tmp_path / "run"), write_run(tmp_path / "other")
    snapshot = Snapshot({"run": path})
    with pytest.raises(Exception, match="disabled by configuration"):
        snapshot.rows(f"SELECT * FROM read_parquet('{other}/pairs.parquet')")
    with pytest.raises(Exception, match="locked"):
        snapshot.rows("SET enable_external_access = true")


def test_a_name_with_wildcards_is_a_name(tmp_path: Path) -> None:
    path = write_run(tmp_path / "it's [a]*?")
    write_run(tmp_path / "it's abc?")
    assert Snapshot({"run": path}).page(PAIRS, "", "", 1).total == 2


def test_a_run_under_way_is_shown_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LEAST_SECONDS", 0.0)
    path = tmp_path / "run"
    run = generate(path)
    runs = Runs(path)
    first = runs.snapshot()
    assert first.page(PROMPTS, "responses=2", "", 1).total == 3 and first.page(PAIRS, "", "", 1).total == 0
    assert first.page(DROPPED, "", "", 1).rows[0]["row_id"] == "broken.jpg"
    assert runs.snapshot() is first  # nothing has changed
    (path / "responses.parquet").unlink()
    again = Run(path, CONFIG, "generation")
    again._marker = run._marker
    writer = TableWriter(again, "responses", key="prompt_id", part_rows=1)
    for count in (1, 2):
        writer.write([response_row(f"p{count}/0", f"p{count}", 0, "A text.")])
        assert runs.snapshot().page(PROMPTS, "responses=1", "", 1).total == count
    (path / "responses.parts" / ".part-00002.parquet.tmp").write_bytes(b"being written")
    with (path / "generation.dropped.jsonl").open("a") as file:
        file.write('["cut')  # a line that is being written
    assert runs.snapshot().page(PROMPTS, "response~text", "", 1).total == 2
    assert runs.snapshot().page(DROPPED, "", "", 1).total == 1
    writer.finish()
    assert runs.snapshot().page(PROMPTS, "responses=1", "", 1).total == 2
    assert runs.snapshot().page(PROMPTS, "reason=not_yet_paired", "", 1).total == 2


def test_a_file_that_vanishes_is_one_line(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    snapshot = Snapshot({"run": path})
    (path / "pairs.parquet").unlink()
    with pytest.raises(InputError, match=r"a table cannot be read .*; reload, or write it again"):
        snapshot.page(PAIRS, "claim~cat", "", 1)


def test_pages_are_cut_in_table_order(tmp_path: Path) -> None:
    path = tmp_path / "run"
    generate(path)
    again = Run(path, CONFIG, "generation")
    again._marker = json.loads((path / "generation.json").read_text())
    (path / "prompts.parquet").unlink()
    with TableWriter(again, "prompts", key="prompt_id", part_rows=7) as writer:
        for number in range(45):
            writer.write([prompt_row(f"{(number * 7) % 45:02}", "Look.", b"x")])
    snapshot = Snapshot({"run": path})
    numbers = [row["prompt_id"] for page in (1, 2, 3) for row in snapshot.page(PROMPTS, "", "", page).rows]
    assert numbers == [f"{(number * 7) % 45:02}" for number in range(45)]
    assert snapshot.page(PROMPTS, "", "", 99).number == 3 and snapshot.page(PROMPTS, "", "", 1).last == 3
