"""The policy of a run that leaves for a device, and its processor."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaif.config import Config, ModelSection
from rlaif.errors import InputError, ModelError
from rlaif.inference.revision import model_files, model_revision, pin_model
from rlaif.storage.files import lock_until_exit, read_json, write_json

if TYPE_CHECKING:
    from model import MiniCPMVProcessor

VERSIONS = ("2.5", "2.6")
REVISION = "revision.json"


@dataclass(frozen=True)
class Policy:
    """A policy that leaves for a device.

    folder: its files. name: of the run that aligned it, or of the model that the configuration names. revision: as of
    `rlaif.inference.revision.model_revision`.
    """

    folder: Path
    name: str
    revision: str

    @classmethod
    def of(cls, config: Config, run: Path) -> "Policy":
        """The policy that `make dpo` wrote into the run folder, an adapter merged; without one, after a line that says
        so, the policy of the configuration, which is downloaded where it is not cached.

        Errors: InputError: there is no such run folder; ModelError: the policy is not MiniCPM-V of one of VERSIONS, or
        has no weights.
        """
        if not run.is_dir():
            raise InputError(f"{run} is not a folder, expected that of a run; correct RUN=, or create it")
        aligned, section = run / "policy", config.policy
        if aligned.is_dir():
            return cls(aligned, run.resolve().name, _kept_revision(aligned, run))
        print(f"{run} has no aligned policy; takes the one of the configuration, {section.model}")
        name = Path(section.model).name
        if Path(section.model).is_dir():
            return cls(Path(section.model), name, _kept_revision(Path(section.model), run))
        section, revision = pin_model(section)
        from huggingface_hub import hf_hub_download, snapshot_download

        check_version(section.model, Path(hf_hub_download(section.model, "config.json", revision=revision)))
        return cls(Path(snapshot_download(section.model, revision=revision)), name, revision)


def locked_folder(run: Path) -> Path:
    """The folder RUN/edge, in which no other process writes. Errors: InputError."""
    folder = run / "edge"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}); use another RUN=") from error
    lock_until_exit(folder.resolve() / ".lock")
    return folder


def check_version(model: str, file: Path) -> None:
    """Errors: ModelError where the config.json of a model is not that of MiniCPM-V of one of VERSIONS."""
    try:
        settings: dict[str, Any] = read_json(file)
    except InputError as error:
        raise ModelError(
            f"{file} is damaged ({error.__cause__}), expected the configuration of a model; copy the model again, or "
            "give another one"
        ) from error
    kind, version = settings.get("model_type"), str(settings.get("version"))
    if kind != "minicpmv" or version not in VERSIONS:
        what = f"MiniCPM-V {version}" if kind == "minicpmv" else f"a model of type {kind!r}"
        raise ModelError(
            f"{model} is {what}, expected MiniCPM-V {' or '.join(VERSIONS)}; give such a policy with CONFIG= or RUN="
        )


def check_exported(file: Path, revision: str | None, policy: Policy, command: str) -> None:
    """Errors: InputError where a file was not written from the policy that the run has now.

    revision: what the file says. command: what writes it again.
    """
    if revision != policy.revision:
        raise InputError(
            f"{file} was written from another policy ({revision or 'it does not say which'}), expected the one that is "
            f"in {policy.folder} now ({policy.revision}); run `{command}`"
        )


def load_processor(folder: Path) -> "MiniCPMVProcessor":
    """The processor of a policy. Errors: ModelError: its files are missing or damaged."""
    from model import MiniCPMVProcessor

    try:
        processor: MiniCPMVProcessor = MiniCPMVProcessor.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:  # damaged JSON is a ValueError
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"the tokenizer or the image processor of {folder} cannot be read ({reason}), expected those of a whole "
            "model; copy it again, or give another one"
        ) from error
    return processor


def _kept_revision(folder: Path, run: Path) -> str:
    """The revision of a model folder. To read all weights takes long, so RUN/edge/revision.json keeps the revision for
    as long as the names, sizes and times of the files are the same.

    Errors: ModelError: see `Policy.of`.
    """
    files = model_files(folder)
    check_version(str(folder), folder / "config.json")
    state = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    kept = run / "edge" / REVISION
    known: dict[str, Any] = read_json(kept) if kept.is_file() else {}
    if known.get("folder") == str(folder.resolve()) and known.get("files") == state:
        return str(known["revision"])
    revision = model_revision(ModelSection(model=str(folder)))
    kept.parent.mkdir(exist_ok=True)
    write_json(kept, {"revision": revision, "folder": str(folder.resolve()), "files": state})
    return revision
