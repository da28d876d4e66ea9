"""A run folder: which settings made what lies in it, what was dropped and why, and what a stage says at its end.

Each stage binds its outputs to an identity: the hash of its name, its settings, the identities of the tables it reads,
and STAGE_VERSION. Started again with the same identity a stage goes on, or finds that nothing is left to do; with
another one it refuses, says what differs, and overwrites nothing.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Generic

from rlaif.config import AnyConfig
from rlaif.errors import InputError, RunMismatchError
from rlaif.storage.files import atomic_write, lock
from rlaif.storage.schemas import MADE_BY, SCHEMAS
from rlaif.storage.tables import read_metadata, read_rows
from rlaif.storage.versions import code_version, library_versions
from rlaif.storage.writer import replace_table

STAGE_VERSION = 4  # raise it when a stage makes other rows from the same settings


DETAIL_LENGTH = 300  # characters of a drop's detail that are kept


class Run(Generic[AnyConfig]):
    """The folder of one run, as one stage sees it: `begin`, then tables and `drop`, then `finish`."""

    def __init__(self, path: Path, config: AnyConfig, stage: str) -> None:
        self.path = Path(path)
        self.config = config
        self.stage = stage
        self._marker: dict[str, Any] = {}
        self._marker_path = self.path / f"{stage}.json"
        self._drops_path = self.path / f"{stage}.dropped.jsonl"  # until finish(), so that a kill loses none
        self._noted: set[int] = set()  # hashes of its lines: a long run drops many rows
        self._started = time.monotonic()

    def begin(self, outputs: list[str], settings: dict[str, Any], inputs: list[str]) -> bool:
        """Bind `outputs` (tables, or folders such as `policy`) to `settings` and to the tables `inputs`.

        Returns False, and says so, if all of it is there already; True if there is work to do or to go on with.
        Errors: RunMismatchError if the folder holds this stage's output, finished or not, from other settings;
        InputError if an input is missing, or the folder cannot be used or another process is at work in it.
        """
        identities = {name: self.identity(name) for name in inputs}
        made_from = {"stage": self.stage, "settings": settings, "inputs": identities, "stage_version": STAGE_VERSION}
        made_from = json.loads(json.dumps(made_from))  # as it will be read back: tuples are lists
        identity = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
        marker = {**made_from, "identity": identity, "outputs": outputs, "finished": False}
        known = self._known(outputs)
        for origin, earlier in known.items():
            if earlier["identity"] != identity:
                raise RunMismatchError(self._mismatch(origin, earlier, marker))
        if known and all(self._output(name).exists() for name in outputs) and self._marker.get("finished"):
            print(f"{self.stage}: nothing to do; {self.path} has {', '.join(outputs)}, made with these settings")
            return False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock(self.path.resolve() / ".lock")
            if known:
                self._go_on_with_drops()
            else:
                self._drops_path.unlink(missing_ok=True)
            self._marker = marker
            _write_json(self._marker_path, marker)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise InputError(
                f"cannot write to the run folder {self.path} ({error.strerror}); use another RUN="
            ) from error
        return True

    def identity(self, table: str) -> str:
        """The identity of a finished output of this run. Errors: InputError, naming the command that makes it."""
        if table in SCHEMAS:
            return read_metadata(self, table)["identity"]
        for path in sorted(self.path.glob("*.json")):
            marker = _read_json(path)
            if table in marker.get("outputs", []) and marker["finished"]:
                return marker["identity"]
        raise InputError(f"{self.path / table} is missing or unfinished; first run `{MADE_BY[table]} RUN={self.path}`")

    def provenance(self, table: str) -> dict[str, Any]:
        """What goes into a table's metadata: stage, identity, settings, inputs, code and library versions, time."""
        assert self._marker, "begin() comes before a table is written"
        return {
            "table": table,
            "stage": self.stage,
            "identity": self._marker["identity"],
            "config": self._marker["settings"],
            "inputs": self._marker["inputs"],
            "stage_version": STAGE_VERSION,
            "code_version": code_version(),
            "versions": library_versions(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def drop(self, row_id: str, reason: str, detail: str = "") -> None:
        """Note a row that does not go on: `reason` is a short name that is counted, `detail` is for a person to read:
        it is cut at DETAIL_LENGTH, and what is not printable is shown escaped.

        Call it before the rows of the same key are written: it is on disk at once, and a repeated call counts once.
        """
        line = json.dumps([_shown(row_id), reason, _shown(detail, DETAIL_LENGTH)]) + "\n"
        if hash(line) not in self._noted:
            self._noted.add(hash(line))
            with self._drops_path.open("a", encoding="utf-8") as file:
                file.write(line)

    def dropped(self) -> dict[str, str]:
        """The rows that this stage has put aside, in an earlier try too, with the (last) reason of each."""
        return {row["row_id"]: row["reason"] for row in self._own_drops()}

    def finish(self, kept: dict[str, int], next_command: str | None) -> None:
        """Write dropped.parquet and metrics.json, mark the stage finished, say what was made. `kept`: table -> rows."""
        seconds = round(time.monotonic() - self._started, 1)
        dropped = dict(Counter(row["reason"] for row in self._own_drops()).most_common())
        self._write_dropped()
        stages = self.metrics().get("stages", {})
        stages[self.stage] = {"kept": kept, "dropped": dropped, "seconds": seconds}
        seeds = self.config.model_dump(include={"seed", "round"})
        self.update_metrics(stages=stages, versions=library_versions(), seeds=seeds)
        self._marker["finished"] = True
        _write_json(self._marker_path, self._marker)
        self._drops_path.unlink(missing_ok=True)
        print(f"{self.stage}: done in {seconds:.0f} s")
        for name in self._marker["outputs"]:
            print(f"  wrote    {self._output(name)}" + (f" ({kept[name]:,} rows)" if name in kept else ""))
        print(f"  kept     {', '.join(f'{count:,} {name}' for name, count in kept.items()) or 'no rows'}")
        print(f"  dropped  {', '.join(f'{count:,} {reason}' for reason, count in dropped.items()) or 'none'}")
        if next_command:
            print(f"  next     {next_command}")

    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json; empty before the first stage has finished."""
        path = self.path / "metrics.json"
        return _read_json(path) if path.is_file() else {}

    def update_metrics(self, **sections: Any) -> None:
        """Merge sections into metrics.json: keys of a section that is a dict are merged, anything else is replaced."""
        metrics = self.metrics()
        for name, value in sections.items():
            both = isinstance(value, dict) and isinstance(metrics.get(name), dict)
            metrics[name] = {**metrics[name], **value} if both else value
        _write_json(self.path / "metrics.json", metrics)

    def announce(self, *lines: str) -> None:
        """Say what the stage will do."""
        print(f"{self.stage}: {self.path}")
        for line in lines:
            print(f"  {line}")

    def _output(self, name: str) -> Path:
        return self.path / (f"{name}.parquet" if name in SCHEMAS else name)

    def _known(self, outputs: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What this stage left here earlier, by the path that tells: its marker, and the metadata of its tables.

        The marker of a try that left nothing else (its input was bad, say) binds nobody.
        """
        known = {}
        traces = [self._output(name) for name in outputs] + [self.path / f"{name}.parts" for name in outputs]
        traces.append(self.path / self.stage)  # working folder, such as the checkpoints of dpo
        if self._marker_path.is_file() and any(trace.exists() for trace in traces):
            self._marker = known[str(self._marker_path)] = _read_json(self._marker_path)
        for name in outputs:
            if not self._output(name).exists():
                continue
            if name in SCHEMAS:
                found = read_metadata(self, name)
                known[str(self._output(name))] = {**found, "settings": found["config"]}
            elif not self._marker:
                raise RunMismatchError(
                    f"{self._output(name)} is there, but {self._marker_path} with its settings is not; use another RUN="
                )
        return known

    def _mismatch(self, origin: str, earlier: dict[str, Any], now: dict[str, Any]) -> str:
        old, new = (
            _flat({**it["settings"], "input": it["inputs"], "stage_version": it["stage_version"]})
            for it in (earlier, now)
        )
        differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        changes = "; ".join(f"{name}: {_show(old, name)} -> {_show(new, name)}" for name in differing)
        return (
            f"{origin} was made with other settings ({changes}); use another RUN=, or delete {self.path} to start over"
        )

    def _go_on_with_drops(self) -> None:
        """Note the drops of the unfinished try; a last line cut off by a kill is cut away: its row comes again."""
        if not self._drops_path.is_file():
            return
        whole = 0
        with self._drops_path.open("rb+") as file:
            for line in file:
                if line.endswith(b"\n"):
                    self._noted.add(hash(line.decode()))
                    whole += len(line)
            file.truncate(whole)

    def _own_drops(self) -> Iterator[dict[str, str]]:
        """Rows of `dropped` that this stage has noted so far."""
        if self._drops_path.is_file():
            with self._drops_path.open(encoding="utf-8") as file:
                for line in file:
                    row_id, reason, detail = json.loads(line)
                    yield {"stage": self.stage, "row_id": row_id, "reason": reason, "detail": detail}

    def _write_dropped(self) -> None:
        """Write dropped.parquet anew: the rows of other stages as they are, then those of this stage."""
        written = read_rows(self, "dropped") if self._output("dropped").is_file() else iter(())
        others = (row for row in written if row["stage"] != self.stage)
        replace_table(self, "dropped", chain(others, self._own_drops()))


def _shown(text: str, length: int | None = None) -> str:
    """Control characters and lone surrogates (bytes of a file name that are no text, which a table cannot hold) are
    shown escaped; a longer text is cut.
    """
    if length is not None and len(text) > length:
        text = f"{text[:length]}... ({len(text):,} characters)"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _show(settings: dict[str, Any], name: str) -> str:
    return json.dumps(settings[name]) if name in settings else "absent"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); delete it, or use another RUN=") from error


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
