"""How far stages are, from folders in every state."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from browser import progress
from browser.progress import Stage, is_locked, log_lines, rate, readable, stages
from browser.tables import Snapshot
from rlaif.storage.files import write_json
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter
from tests.support.runs.browsed import CONFIG, GENERATION, generate, write_run
from tests.support.runs.label_rows import prompt_row, response_row


def of(path: Path) -> dict[str, Stage]:
    return {stage.name: stage for stage in stages(path, Snapshot({"run": path}))}


def test_a_finished_run(tmp_path: Path) -> None:
    found = of(write_run(tmp_path / "run"))
    assert [(name, stage.state) for name, stage in found.items()] == [
        ("generation", "finished"),
        ("feedback", "finished"),
        ("dpo", "waiting"),
        ("evaluate", "waiting"),
    ]
    assert found["generation"].kept == {"prompts": 4, "responses": 6}
    assert found["feedback"].dropped == {"all_scores_equal": 1, "invented_claim": 1}
    assert found["feedback"].left is None


def test_responses_under_way(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run = Run(path, CONFIG, "generation")
    run.begin(["prompts", "responses"], GENERATION, inputs=[])
    further = [(2, "train"), (3, "train"), (4, "test"), (5, "train"), (6, "train")]
    prompts = TableWriter(run, "prompts", key="prompt_id", part_rows=1)
    prompts.write([prompt_row("p1", "Look.", b"x")])
    stage = of(path)["generation"]
    assert (stage.state, stage.done, stage.total) == ("running", 1, None)  # this process holds the lock
    prompts.write([prompt_row(f"p{number}", "Look.", b"x", split=split) for number, split in further])
    prompts.finish()
    responses = TableWriter(run, "responses", key="prompt_id", part_rows=1)
    started = (path / "generation.json").stat().st_mtime
    for number in (1, 2, 3):
        responses.write([response_row(f"p{number}/{index}", f"p{number}", index, "A.") for index in (0, 1)])
        when = started + 10 * number
        os.utime(path / "responses.parts" / f"part-0000{number - 1}.parquet", (when, when))
    stage = of(path)["generation"]
    assert (stage.done, stage.total) == (3, 5)  # the fourth prompt is of another split
    assert stage.per_second == pytest.approx(0.1) and stage.left == pytest.approx(20)
    os.utime(path / "generation.json", (started + 25, started + 25))  # resumed before the last part
    assert of(path)["generation"].per_second == pytest.approx(1 / 5)
    os.utime(path / "generation.json", (started + 35, started + 35))  # resumed, and nothing written since
    stage = of(path)["generation"]
    assert stage.per_second is None and stage.left is None


def test_a_stage_without_a_process_has_stopped(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    marker = json.loads((path / "feedback.json").read_text())
    write_json(path / "feedback.json", marker | {"finished": False})
    moved = path.rename(tmp_path / "moved")
    (moved / ".lock").unlink()
    stage = of(moved)["feedback"]
    assert (stage.state, stage.done, stage.total, stage.left) == ("stopped", 3, 3, None)


def test_dpo_by_its_checkpoints(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    marker = {"outputs": ["policy"], "finished": False, "settings": {}}
    write_json(path / "dpo.json", marker)
    assert of(path)["dpo"].done is None
    started = (path / "dpo.json").stat().st_mtime
    for step in (20, 40):
        state = path / "dpo" / f"checkpoint-{step}" / "trainer_state.json"
        state.parent.mkdir(parents=True)
        write_json(state, {"global_step": step, "max_steps": 100, "log_history": [{"step": step, "loss": 0.5}]})
        os.utime(state, (started + step, started + step))
    stage = of(path)["dpo"]
    assert (stage.unit, stage.done, stage.total, stage.per_second, stage.left) == ("steps", 40, 100, 1.0, 60)
    assert log_lines(path) == ("the last checkpoint", ["step 40  loss 0.5"])
    write_json(path / "dpo" / "log.json", [{"step": 1, "loss": 0.25}])
    assert log_lines(path) == ("dpo/log.json", ["step 1  loss 0.25"])


def test_a_lock_is_seen_and_not_taken(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    assert not is_locked(file)
    with file.open("w") as opened:
        assert not is_locked(file)
        fcntl.flock(opened, fcntl.LOCK_EX)
        assert is_locked(file)
    assert not is_locked(file)


def test_log_lines_are_what_a_terminal_shows(tmp_path: Path) -> None:
    path = tmp_path / "run"
    generate(path)
    assert log_lines(path) == ("", [])
    bar = "labels:  10%|#\rlabels:  50%|#####\rlabels: 100%|##########\r\n"
    (path / "demo.log").write_bytes(b"first\n\x1b[31mred\x1b[0m\n" + bar.encode() + b"\xffend\x07\n\n")
    assert log_lines(path) == ("demo.log", ["first", "red", "labels: 100%|##########", "\N{REPLACEMENT CHARACTER}end"])
    (path / "demo.log").write_text("\n".join(f"line {number}" for number in range(20_000)))
    assert log_lines(path)[1] == [f"line {number}" for number in range(20_000 - progress.LOG_LINES, 20_000)]


def test_lines_of_several_stages_come_by_their_times(tmp_path: Path) -> None:
    path = tmp_path / "run"
    generate(path)

    def stamped(second: int, text: str) -> str:
        return f"2026-11-29T10:00:{second:02}Z {text}"

    generation = [stamped(second, "generation") for second in range(3 * progress.LOG_LINES)]
    feedback = [stamped(50, "feedback: runs/x"), stamped(50, "  a"), stamped(52, "  c")]
    (path / "generation.log").write_text("\n".join([*generation, stamped(51, "error: b"), ""]))
    (path / "feedback.log").write_text("\n".join(feedback))
    os.utime(path / "generation.log", (1, 1))
    (path / "demo.log").write_text("of a terminal, without times\n")
    os.utime(path / "demo.log", (0, 0))
    source, shown = log_lines(path)
    assert source == "generation.log, feedback.log" and len(shown) == progress.LOG_LINES
    assert [line[21:] for line in shown[-5:]] == ["generation", "feedback: runs/x", "  a", "error: b", "  c"]
    os.utime(path / "demo.log")
    assert log_lines(path) == ("demo.log", ["of a terminal, without times"])


def test_a_log_that_leads_out_of_the_run_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "run"
    generate(path)
    (tmp_path / "secret").write_text("secret")
    os.symlink(tmp_path / "secret", path / "demo.log")
    assert log_lines(path) == ("demo.log", ["not shown: it is not a file of this run"])


def test_rates_and_durations() -> None:
    assert rate([]) is None and rate([(1.0, 5)]) is None and rate([(1.0, 5), (1.0, 9)]) is None
    assert rate([(10.0, 5), (12.0, 6), (14.0, 13)]) == 2.0
    assert [readable(seconds) for seconds in (0.4, 59.6, 75, 3600, 90_061)] == [
        "0 s",
        "1 min 0 s",
        "1 min 15 s",
        "1 h 0 min",
        "25 h 1 min",
    ]
