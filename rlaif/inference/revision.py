"""The exact model that a section names: a hash for a folder, a commit for a hub repository."""

import hashlib
import re
from pathlib import Path

from rlaif.config import ModelSection
from rlaif.errors import ModelError

COMMIT = re.compile("[0-9a-f]{40}")


MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer*",
    "chat_template*",
    "*.safetensors",
)


def model_revision(section: ModelSection) -> str:
    """The revision of the model that a section names.

    For a folder: 16 hex digits over its configuration, tokenizer and weights. For a hub id: the commit of the given
    revision, or the newest commit; `pin_model` makes sure that this commit is also the one that is loaded. For an
    endpoint: the given revision, or what it serves according to its list of models (`rlaif.inference.endpoint`).
    Errors: ModelError for a folder without a model, a hub id that cannot be resolved, an endpoint that fails.
    """
    if section.endpoint is not None:
        from rlaif.inference.endpoint import served_revision

        return served_revision(section.model, section.revision, section.endpoint)
    folder = Path(section.model)
    if folder.is_dir():
        return _folder_revision(folder)
    if folder.exists() or not section.is_hub_id:
        raise ModelError(
            f"no model folder {section.model}; give a folder with config.json and *.safetensors, or a hub id"
        )
    from huggingface_hub.errors import LocalEntryNotFoundError  # deferred so that `--help` stays fast

    try:
        return hub_commit(section.model, section.revision, "model", "config.json")
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{section.model} is not a folder, and the hub cannot be reached; connect this machine, or name a folder "
            "with the model"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{section.model} is neither a folder nor found on the hub ({type(error).__name__}); "
            "correct the name, or set its revision"
        ) from error


def hub_commit(name: str, revision: str | None, kind: str, file: str) -> str:
    """The current commit of a revision of a hub repository, the newest for None; `file` is downloaded to find it.

    Errors: OSError, ValueError: there is no such repository or revision, or no network.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import snapshot_download

    snapshot = snapshot_download(name, repo_type=kind, revision=revision, allow_patterns=[file])
    return Path(snapshot).name  # a snapshot's folder is named by its commit


def pin_model(section: ModelSection) -> tuple[ModelSection, str]:
    """The section to load a model with, and its revision, which is recorded.

    The section of a hub id gets the commit, so that no later one is loaded; those of folders and endpoints are returned
    unchanged. Errors: as `model_revision`.
    """
    revision = model_revision(section)
    if section.endpoint is not None or Path(section.model).is_dir():
        return section, revision
    return section.model_copy(update={"revision": revision}), revision


def model_files(folder: Path) -> list[Path]:
    """The files of a model folder that decide its revision. Errors: ModelError for a folder without a model."""
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} is not a model folder: it has no config.json; give a folder with config.json and *.safetensors"
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} is not a model folder: it has no *.safetensors; convert its weights, other formats are not read"
        )
    return sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})


def _folder_revision(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in model_files(folder):
        with path.open("rb") as file:
            digest.update(f"{path.name}\x1f{hashlib.file_digest(file, 'sha256').hexdigest()}\x1f".encode())
    return digest.hexdigest()[:16]
