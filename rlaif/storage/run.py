"""A run folder: the settings behind each output, dropped rows with their reasons, and the metrics of the stages.

Each stage binds its outputs to an identity: the hash of its name, its settings, the identities of the tables it reads,
and its number in STAGE_VERSIONS. Started again with the same identity, a stage resumes, or has nothing to do.
With another identity it refuses, says what differs, and overwrites nothing.
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
from rlaif.storage.files import lock_until_exit, locked, read_json, write_json
from rlaif.storage.schemas import COMMANDS, SCHEMAS
from rlaif.storage.tables import read_metadata, read_rows
from rlaif.storage.versions import STAGE_VERSIONS, code_version, library_versions
from rlaif.storage.writer import replace_table

DETAIL_LENGTH = 300  # characters of a drop's detail that are kept


class Run(Generic[AnyConfig]):
    """The folder of a run, for one stage: call `begin`, write tables and `drop` rows, then call `finish`."""

    def __init__(self, path: Path, config: AnyConfig, stage: str) -> None:
        self.path = Path(path)
        self.config = config
        self.stage = stage
        self._marker: dict[str, Any] = {}
        self._marker_path = self.path / f"{stage}.json"
        self._drops_path = self.path / f"{stage}.dropped.jsonl"  # until finish(), so that a kill loses no drop
        self._drop_hashes: set[int] = set()  # of its lines, which may be too many to hold
        self._started = time.monotonic()

    def begin(self, outputs: list[str], settings: dict[str, Any], inputs: list[str]) -> bool:
        """Bind `outputs` (tables, or folders such as `policy`) to `settings` and to the tables `inputs`.

        Returns whether there is work to do; False, after a message, if all outputs are finished.
        Errors: RunMismatchError if the folder holds this stage's output, finished or not, from other settings;
        InputError if an input is missing, the folder cannot be written to, or another process is working in it.
        """
        assert self.stage in STAGE_VERSIONS, f"stage {self.stage!r} has no number in STAGE_VERSIONS"
        identities = {name: self.identity(name) for name in inputs}
        origin = {
            "stage": self.stage,
            "settings": settings,
            "inputs": identities,
            "stage_version": STAGE_VERSIONS[self.stage],
        }
        origin = json.loads(json.dumps(origin))  # as read back from a file, where tuples are lists
        identity = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:16]
        marker = {**origin, "identity": identity, "outputs": outputs, "finished": False}
        earlier_outputs = self._earlier_outputs(outputs)
        for path, earlier in earlier_outputs.items():
            if earlier["identity"] != identity:
                raise RunMismatchError(self._mismatch(path, earlier, marker))
        if earlier_outputs and all(self._output(name).exists() for name in outputs) and self._marker.get("finished"):
            print(f"{self.stage}: nothing to do; {self.path} has {', '.join(outputs)}, made with these settings")
            return False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock_until_exit(self.path.resolve() / ".lock")
            if earlier_outputs:
                self._resume_drops()
            else:
                self._drops_path.unlink(missing_ok=True)
            self._marker = marker
            write_json(self._marker_path, marker)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise InputError(
                f"cannot write to the run folder {self.path} ({error.strerror}); use another RUN="
            ) from error
        return True

    def identity(self, table: str) -> str:
        """The identity of a finished output of this run. Errors: InputError, with the command that writes it."""
        if table in SCHEMAS:
            return str(read_metadata(self, table)["identity"])
        for path in sorted(self.path.glob("*.json")):
            marker = read_json(path)
            if table in marker.get("outputs", []) and marker["finished"]:
                return str(marker["identity"])
        raise InputError(
            f"{self.path / table} is missing or unfinished; "
            f"first run `{COMMANDS[table]} RUN={self.path}` with the same CONFIG and SET"
        )

    def provenance(self, table: str) -> dict[str, Any]:
        """The metadata of a table: stage, identity, settings, inputs, code and library versions, time."""
        assert self._marker, "call begin() before a table is written"
        return {
            "table": table,
            "stage": self.stage,
            "identity": self._marker["identity"],
            "config": self._marker["settings"],
            "inputs": self._marker["inputs"],
            "stage_version": self._marker["stage_version"],
            "code_version": code_version(),
            "versions": library_versions(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def drop(self, row_id: str, reason: str, detail: str = "") -> None:
        """Record a dropped row: `reason` is a short name that is counted, `detail` a text for people.

        The detail is cut at DETAIL_LENGTH, and its control characters are escaped. Call this before the rows of the
        same key are written: the drop is on disk at once, and a repeated call counts once.
        """
        line = json.dumps([_printable(row_id), reason, _printable(detail, DETAIL_LENGTH)]) + "\n"
        if hash(line) not in self._drop_hashes:
            self._drop_hashes.add(hash(line))
            with self._drops_path.open("a", encoding="utf-8") as file:
                file.write(line)

    def dropped(self) -> dict[str, str]:
        """The ids of the rows that this stage has dropped so far, in earlier attempts too -> the last reason."""
        return {row["row_id"]: row["reason"] for row in self._drops()}

    def finish(self, kept: dict[str, int], next_command: str | None) -> None:
        """Write dropped.parquet and metrics.json, mark the stage as finished, print a summary.

        kept: table -> number of rows.
        """
        seconds = round(time.monotonic() - self._started, 1)
        dropped = dict(Counter(row["reason"] for row in self._drops()).most_common())
        self._write_dropped()
        stages = {self.stage: {"kept": kept, "dropped": dropped, "seconds": seconds}}
        seeds = self.config.model_dump(include={"seed", "round"})
        self.update_metrics(stages=stages, versions=library_versions(), seeds=seeds)
        self._marker["finished"] = True
        write_json(self._marker_path, self._marker)
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
        metrics: dict[str, Any] = read_json(path) if path.is_file() else {}
        return metrics

    def update_metrics(self, **sections: Any) -> None:
        """Merge sections into metrics.json: keys of a section that is a dict are merged, anything else is replaced.

        Several processes may do so at the same time: none loses the sections of another.
        """
        with locked(self.path / ".metrics.lock"):
            metrics = self.metrics()
            for name, value in sections.items():
                both = isinstance(value, dict) and isinstance(metrics.get(name), dict)
                metrics[name] = {**metrics[name], **value} if both else value
            write_json(self.path / "metrics.json", metrics)

    def announce(self, *lines: str) -> None:
        """Print what the stage will do."""
        print(f"{self.stage}: {self.path}")
        for line in lines:
            print(f"  {line}")

    def _output(self, name: str) -> Path:
        return self.path / (f"{name}.parquet" if name in SCHEMAS else name)

    def _earlier_outputs(self, outputs: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The marker and the table metadata that earlier attempts of this stage left, by path.

        A marker without any output (the input was bad, say) does not count.
        """
        earlier: dict[str, dict[str, Any]] = {}
        candidates = [self._output(name) for name in outputs] + [self.path / f"{name}.parts" for name in outputs]
        candidates.append(self.path / self.stage)  # working folder, such as the checkpoints of dpo
        if self._marker_path.is_file() and any(path.exists() for path in candidates):
            self._marker = earlier[str(self._marker_path)] = read_json(self._marker_path)
        for name in outputs:
            if not self._output(name).exists():
                continue
            if name in SCHEMAS:
                metadata = read_metadata(self, name)
                earlier[str(self._output(name))] = {**metadata, "settings": metadata["config"]}
            elif not self._marker:
                raise RunMismatchError(
                    f"{self._output(name)} exists, but {self._marker_path} with its settings does not; use another RUN="
                )
        return earlier

    def _mismatch(self, path: str, earlier: dict[str, Any], now: dict[str, Any]) -> str:
        old, new = (
            _flat({**origin["settings"], "input": origin["inputs"], "stage_version": origin["stage_version"]})
            for origin in (earlier, now)
        )
        differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        changes = "; ".join(f"{name}: {_value(old, name)} -> {_value(new, name)}" for name in differing)
        written = [self._output(name).name for name in now["outputs"]] + [f"{name}.parts" for name in now["outputs"]]
        written += [self.stage, self._drops_path.name, self._marker_path.name]
        files = ", ".join(name for name in dict.fromkeys(written) if (self.path / name).exists())
        return (
            f"{path} was made with other settings ({changes}); use another RUN=, or delete what {self.stage} wrote in "
            f"{self.path} to start it over: {files}"
        )

    def _resume_drops(self) -> None:
        """Read the drops of an unfinished attempt; a last line that a kill cut short is removed."""
        if not self._drops_path.is_file():
            return
        whole = 0
        with self._drops_path.open("rb+") as file:
            for line in file:
                if line.endswith(b"\n"):
                    self._drop_hashes.add(hash(line.decode()))
                    whole += len(line)
            file.truncate(whole)

    def _drops(self) -> Iterator[dict[str, str]]:
        """The rows that this stage adds to the table `dropped`."""
        if self._drops_path.is_file():
            with self._drops_path.open(encoding="utf-8") as file:
                for line in file:
                    row_id, reason, detail = json.loads(line)
                    yield {"stage": self.stage, "row_id": row_id, "reason": reason, "detail": detail}

    def _write_dropped(self) -> None:
        """Rewrite dropped.parquet: the rows of other stages as they are, then those of this stage."""
        written = read_rows(self, "dropped") if self._output("dropped").is_file() else iter(())
        others = (row for row in written if row["stage"] != self.stage)
        replace_table(self, "dropped", chain(others, self._drops()))


def _printable(text: str, length: int | None = None) -> str:
    """`text` with control characters and lone surrogates (from file names, invalid in a table) escaped.

    A text of more than `length` characters is cut there.
    """
    if length is not None and len(text) > length:
        text = f"{text[:length]}... ({len(text):,} characters)"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _value(settings: dict[str, Any], name: str) -> str:
    return json.dumps(settings[name]) if name in settings else "absent"
