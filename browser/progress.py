"""How far each stage of a run is, from what lies in its folder: markers, parts of tables, checkpoints, drops, logs.

A stage that runs holds the lock of the run folder; who holds it is read from /proc/locks, so that nothing is locked
here. Rates come from the times at which parts were written since the stage was started the last time.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from browser.tables import Snapshot, markers, table_files
from rlaif.errors import OutsideFolderError
from rlaif.storage.files import file_inside, read_json

STAGES = {  # in the order in which they run -> the table, if any, by whose prompts their progress is counted
    "import": "prompts",
    "generation": "responses",
    "feedback": "scores",
    "dpo": "",
    "evaluate": "evaluations",
}
LOG_LINES = 14
LOG_BYTES = 64 * 1024  # of the end of a log file that are read
TIME_LENGTH = len("2026-11-29T10:21:44Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass
class Stage:
    """state: finished, running, stopped or waiting. done and total: prompts or steps; None: not known."""

    name: str
    state: str = "waiting"
    unit: str = "prompts"
    done: int | None = None
    total: int | None = None
    per_second: float | None = None
    seconds: float | None = None  # that it took
    kept: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def left(self) -> float | None:
        """Seconds that remain at this rate; None: not known."""
        if self.state != "running" or not self.per_second or self.total is None or self.done is None:
            return None
        return max(0, self.total - self.done) / self.per_second


def stages(path: Path, snapshot: Snapshot) -> list[Stage]:
    """The stages of a run in order; those that have not begun are waiting, without `import` where nothing is."""
    begun = dict(markers(path))
    metrics = read_json(path / "metrics.json").get("stages", {}) if (path / "metrics.json").is_file() else {}
    drops: dict[str, Counter[str]] = {}
    query = "SELECT stage, reason, count(*) AS rows FROM run.dropped_index GROUP BY ALL ORDER BY rows DESC, reason"
    for row in snapshot.rows(query):
        drops.setdefault(row["stage"], Counter())[row["reason"]] = row["rows"]
    names = [name for name in STAGES if name in begun or name != "import"]
    if "import" in begun:
        names.remove("generation")
    found = []
    for name in names:
        stage = Stage(name, dropped=dict(drops.get(name, {})))
        if name in begun:
            _fill(stage, begun[name], metrics.get(name, {}), path, snapshot)
        found.append(stage)
    return found


def _fill(stage: Stage, marker: dict[str, Any], metrics: dict[str, Any], path: Path, snapshot: Snapshot) -> None:
    if marker["finished"]:
        stage.state = "finished"
        stage.kept, stage.seconds = metrics.get("kept", {}), metrics.get("seconds")
        return
    stage.state = "running" if is_locked(path / ".lock") else "stopped"
    started = (path / f"{stage.name}.json").stat().st_mtime
    if stage.name == "dpo":
        stage.unit = "steps"
        states = _trainer_states(path)
        if states:
            stage.done, stage.total = states[-1][1]["global_step"], states[-1][1]["max_steps"]
            points = [(started, 0), *((when, state["global_step"]) for when, state in states if when >= started)]
            stage.per_second = rate(points[1:] if len(points) > 2 else points if len(points) > 1 else [])
        return
    table = STAGES[stage.name]
    if table == "responses" and not (path / "prompts.parquet").is_file():
        table = "prompts"  # which come first, in an unknown number
    elif table == "scores" and "splits" in marker["outputs"] and not (path / "splits.parquet").is_file():
        table, stage.unit = "splits", "responses divided"
    else:
        stage.total = _total(table, marker["settings"], snapshot)
    counts = [(file.stat().st_mtime, pq.read_metadata(file).num_rows) for file in table_files(path, table)]
    rows = sum(count for _, count in counts)
    if table == "splits":
        stage.done = rows
    else:
        distinct = "count(*)" if table == "evaluations" else "count(DISTINCT prompt_id)"
        stage.done = snapshot.rows(f"SELECT {distinct} AS done FROM run.{table}")[0]["done"]
    if table == "evaluations":
        stage.unit = "answers"
    running_total, points = 0, []
    for when, count in counts:
        running_total += count
        if when >= started:
            points.append((when, running_total))
    if len(points) == 1:
        points.insert(0, (started, running_total - counts[-1][1]))
    if rows and (per_row := rate(points)) is not None:
        stage.per_second = per_row * stage.done / rows


def _total(table: str, settings: dict[str, Any], snapshot: Snapshot) -> int | None:
    """The number of prompts, or of answers, that a stage works on."""
    if table == "responses":
        query, parameters = "run.prompts WHERE split IN (SELECT unnest(?))", [settings["generation"]["splits"]]
    elif table == "scores":
        query, parameters = "(SELECT DISTINCT prompt_id FROM run.responses)", []
    elif table == "evaluations":
        query, parameters = "run.prompts, range(2) WHERE split = ?", [settings["evaluation"]["split"]]
    else:
        return None
    return int(snapshot.rows(f"SELECT count(*) AS total FROM {query}", parameters)[0]["total"])


def rate(points: Sequence[tuple[float, int]]) -> float | None:
    """Units a second from the first to the last (time, units so far); None of fewer than two."""
    if len(points) < 2 or points[-1][0] <= points[0][0]:
        return None
    return (points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0])


def is_locked(file: Path) -> bool:
    """Whether a process of this machine holds the lock on a file (`rlaif.storage.files.lock_until_exit`)."""
    try:
        inode, locks = file.stat().st_ino, Path("/proc/locks").read_text(encoding="ascii")
    except OSError:  # never locked; not Linux
        return False
    return any(" FLOCK " in line and f":{inode} " in line for line in locks.splitlines())


def _trainer_states(path: Path) -> list[tuple[float, dict[str, Any]]]:
    """The states of the checkpoints that the trainer has kept, oldest first, with their times."""
    files = [file for file in (path / "dpo").glob("checkpoint-*/trainer_state.json") if file.is_file()]
    return sorted(((file.stat().st_mtime, read_json(file)) for file in files), key=lambda state: state[0])


def log_lines(path: Path) -> tuple[str, list[str]]:
    """Where the last log lines come from, and the lines: those of all stages by their times (`rlaif.terminal_log`).

    Where the newest *.log of the folder has no times, its lines; without any *.log, what the trainer logs.
    """
    logs = sorted(path.glob("*.log"), key=lambda file: file.lstat().st_mtime)
    if logs:
        lines = [(line, log.name) for log in logs for line in _tail_inside(path, log.name)]
        if not (newest := [line for line, name in lines if name == logs[-1].name]) or not _TIME.match(newest[-1]):
            return logs[-1].name, newest
        timed = sorted((pair for pair in lines if _TIME.match(pair[0])), key=lambda pair: pair[0][:TIME_LENGTH])
        last = timed[-LOG_LINES:]
        return ", ".join(dict.fromkeys(name for _, name in last)), [line for line, _ in last]
    if (path / "dpo" / "log.json").is_file():
        return "dpo/log.json", [_entry(entry) for entry in read_json(path / "dpo" / "log.json")[-LOG_LINES:]]
    if states := _trainer_states(path):
        return "the last checkpoint", [_entry(entry) for entry in states[-1][1]["log_history"][-LOG_LINES:]]
    return "", []


def _tail_inside(path: Path, name: str) -> list[str]:
    try:
        return tail(file_inside(name, [path.resolve()]))
    except (OutsideFolderError, OSError):  # a link that leads out of the run
        return ["not shown: it is not a file of this run"]


def tail(file: Path) -> list[str]:
    """The last lines of a text file as a terminal shows them: of a progress bar only its last state."""
    with file.open("rb") as opened:
        opened.seek(max(0, os.fstat(opened.fileno()).st_size - LOG_BYTES))
        text = opened.read().decode("utf-8", "replace")
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return [clean for line in lines if (clean := _CONTROL.sub("", line).rstrip())][-LOG_LINES:]


def _entry(entry: dict[str, Any]) -> str:
    names = ("step", "epoch", "loss", "sigmoid_loss", "rewards/margins", "rewards/accuracies", "grad_norm")
    return "  ".join(f"{name} {entry[name]:.4g}" for name in names if isinstance(entry.get(name), int | float))


def readable(seconds: float) -> str:
    """75 -> "1 min 15 s"."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
