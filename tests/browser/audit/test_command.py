"""The command: its errors, the port, one process at a time, and that a kill loses no verdict."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from browser.audit.__main__ import main, open_audit
from browser.serving import LOOPBACK
from evaluation.audit.figures import TRUE
from evaluation.audit.store import SAMPLE, TABLE, Audit, AuditError, read_verdicts
from rlaif.errors import InputError
from rlaif.storage.files import read_json, write_json
from rlaif.storage.schemas import SCHEMAS
from tests.support import ROOT
from tests.support.project.make import dry_run
from tests.support.runs.audited import auditing
from tests.support.runs.browsed import write_run


def under_way(path: Path) -> None:
    write_json(path / "feedback.json", read_json(path / "feedback.json") | {"finished": False})


def without_feedback(path: Path) -> None:
    for name in ("claims.parquet", "scores.parquet", "pairs.parquet", "feedback.json"):
        (path / name).unlink()


def of_another_version(path: Path) -> None:
    pq.write_table(pq.read_table(path / "claims.parquet").drop_columns(["outcome"]), path / "claims.parquet")


def empty(path: Path, *tables: str) -> None:
    for name in tables:
        metadata = pq.read_schema(path / f"{name}.parquet").metadata
        pq.write_table(SCHEMAS[name].with_metadata(metadata).empty_table(), path / f"{name}.parquet")


def audited(path: Path) -> None:
    audit = Audit.open(path, 20, 5)
    audit.record("claim", audit.sample["claims"][0], TRUE, "Ann", 1.0)


def damaged(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        audited(path)
        (path / name).write_bytes((path / name).read_bytes()[:20])

    return damage


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        (["--count", "0"], None, "N is '0', expected a whole number from 1 to 999999999; correct N="),
        (["--count", "-5"], None, "N is '-5', expected a whole number from 1"),
        (["--count", "many"], None, "N is 'many', expected a whole number from 1"),
        (["--count", ""], None, "N is '', expected a whole number from 1"),
        (["--count", "9" * 5000], None, "expected a whole number from 1"),
        (["--seed", "x"], None, "SEED is 'x', expected a whole number from 0"),
        (["--port", "0"], None, "PORT is '0', expected a number from 1 to 65535"),
        (["--run", "runs/never"], None, "run folder runs/never does not exist; create it with `make generate"),
        (["--run", "tests"], None, "tests is not a run"),
        ([], without_feedback, "claims.parquet is missing; first run `make feedback RUN="),
        ([], under_way, ", and an audit draws its sample from all claims and pairs; "),
        ([], of_another_version, "claims.parquet was written by another version"),
        ([], lambda path: empty(path, "claims", "pairs"), "has no claim with a verdict and no pair"),
        (["--seed", "6"], audited, "has an audit of another sample (seed 5"),
        ([], damaged(SAMPLE), "audit.json is damaged (it is not valid JSON"),
        ([], damaged(TABLE), "audits.parquet is damaged ("),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    change: Callable[[Path], None] | None,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    run = write_run(tmp_path / "run")
    if change is not None:
        change(run)
    before = {name: (run / name).read_bytes() for name in (SAMPLE, TABLE) if (run / name).exists()}
    capsys.readouterr()
    assert main(["--run", str(run), *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and message in shown.err and shown.err.count("\n") == 1 and shown.out == ""
    assert "delete" not in shown.err
    assert {name: (run / name).read_bytes() for name in before} == before


def test_tables_that_were_written_again_are_another_sample(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    audited(run)
    table = pq.read_table(run / "pairs.parquet")
    provenance = json.loads(table.schema.metadata[b"rlaif"]) | {"identity": "another"}
    metadata = {**table.schema.metadata, b"rlaif": json.dumps(provenance).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), run / "pairs.parquet")
    with pytest.raises(AuditError, match=r"expected one of seed 5 and of the tables .*; move audit\.json and audits"):
        open_audit(run, 20, None)


def test_a_stage_under_way_is_told_from_one_that_was_stopped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    under_way(run)
    code = f"from rlaif.storage.files import lock_until_exit as lock\nlock({str(run / '.lock')!r}); input()"
    (run / ".lock").unlink()  # this process holds that of the feedback which it wrote
    with pytest.raises(InputError, match=r"was stopped, .*; resume it with `make feedback RUN="):
        open_audit(run, 20, 0)
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        while not (run / ".lock").exists() or not _is_held(run / ".lock"):
            assert process.poll() is None
        with pytest.raises(InputError, match=r"is under way, .*; wait until it has finished"):
            open_audit(run, 20, 0)
        process.stdin.close()


def _is_held(file: Path) -> bool:
    return f":{file.stat().st_ino} " in Path("/proc/locks").read_text()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert open_audit(run, 5, None)[1] == []
    assert open_audit(run, 3, None)[1] == ["this audit was drawn with N=5, and goes on with all of these items"]
    for table, note in (
        ("pairs", "people are asked about claims only"),
        ("claims", "people are asked about pairs only"),
    ):
        other = write_run(tmp_path / table)
        empty(other, table)
        audit, notes = open_audit(other, 5, None)
        assert len(notes) == 1 and note in notes[0] and audit.sample[table] == []


def answer(url: str, person: str, said: str) -> None:
    with urllib.request.urlopen(f"{url}next?person={person}") as page:
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.read().decode()))
    origin = "/".join(url.split("/")[:3])
    data = urllib.parse.urlencode({**fields, "answer": said}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}answer", data, {"Origin": origin})) as page:
        assert page.status == 200


def verdicts(run: Path) -> list[Any]:
    return [row["answer"] for row in read_verdicts(run)]


@pytest.mark.slow
def test_a_kill_loses_no_verdict_and_one_process_at_a_time_asks(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with auditing(run, port) as (process, url):
            assert int(url.split(":")[2].split("/")[0]) > port
            for said in ("true", "false", "cannot tell"):
                answer(url, "Ann", said)
                assert verdicts(run)[-1] == said
            second = [sys.executable, "-m", "browser.audit", "--run", str(run)]
            done = subprocess.run(second, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 2 and done.stderr.count("\n") == 1
            assert "another process has the audit of" in done.stderr
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        with auditing(run, port) as (process, url):
            answer(url, "Ann", "true")
            answer(url, "Bob", "false")
            assert verdicts(run) == ["true", "false", "cannot tell", "true", "false"]
            rows = list(read_verdicts(run))
            assert len({row["item_id"] for row in rows if row["person"] == "Ann"}) == 4
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and errors == ""
    assert f"make evaluate report RUN={run}, with the same CONFIG and SET\n" in output


def test_make_audits_a_run() -> None:
    shown = dry_run("audit", "RUN=runs/it's", "N=50", "SEED=3", "PORT=9000")
    assert r"-m browser.audit --run 'runs/it'\''s' --count '50' --seed '3' --port '9000'" in shown
    shown = dry_run("audit", SEED="7")  # of the environment: some shells export it
    assert "--count '200'" in shown and "--seed" not in shown
    assert "best_of=16" in dry_run("best-of-n")
