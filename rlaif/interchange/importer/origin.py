"""Where imported data comes from: its name, its commit on the hub, and the license under which it was published."""

from dataclasses import dataclass
from pathlib import Path

from rlaif.errors import InputError
from rlaif.inference.revision import hub_commit
from rlaif.interchange.card import NOT_STATED
from rlaif.text import replace_surrogates

# Of published preference data, by hub id; the last two have the texts of the first two.
LICENSES = {
    "openbmb/RLAIF-V-Dataset": "cc-by-nc-4.0",
    "openbmb/RLHF-V-Dataset": "cc-by-nc-4.0",
    "OpenGVLab/MMPR": "mit",
    "OpenGVLab/MMPR-v1.1": "mit",
    "OpenGVLab/MMPR-v1.2": "mit",
    "HuggingFaceH4/rlaif-v_formatted": "cc-by-nc-4.0",
    "llamafactory/RLHF-V": "cc-by-nc-4.0",
}


@dataclass(frozen=True)
class Origin:
    """name: a hub id, with the file if it is a local one, or the last component of a path.

    license: as the hub names it, or NOT_STATED.
    """

    name: str
    revision: str | None
    license: str


def local_origin(path: Path) -> Origin:
    """The origin of a file or folder; its license is in README.md beside it, as in a download from the hub."""
    absolute = path.absolute()
    folder = absolute if path.is_dir() else absolute.parent
    name = replace_surrogates(folder.name if absolute.name == "meta.json" else absolute.name)
    card = folder / "README.md"
    license = card_license(card) if card.is_file() else None
    if published := _published(absolute):
        name = published if name in published else f"{published}: {name}"
        license = license or LICENSES[published]
    return Origin(name, None, license or NOT_STATED)


def hub_origin(name: str, revision: str | None) -> Origin:
    """The origin of a data set on the hub, pinned to a commit. Errors: InputError if it is not found there."""
    from huggingface_hub import hf_hub_download

    try:
        commit = hub_commit(name, revision, "dataset", "README.md")
        card = Path(hf_hub_download(name, "README.md", repo_type="dataset", revision=commit))
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot load data set {name}: neither a file or folder here nor a data set on the hub with a README.md "
            f"({type(error).__name__}); correct DATA=, or set data.revision to a commit that is cached"
        ) from error
    return Origin(name, commit, card_license(card) or LICENSES.get(name) or NOT_STATED)


def card_license(card: Path) -> str | None:
    """The license in the front matter of a card; None if it has none. Errors: InputError for damaged front matter."""
    import yaml
    from huggingface_hub.repocard import metadata_load

    try:
        data = metadata_load(card) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{card} has damaged front matter ({' '.join(str(error).split())}); correct it") from error
    license = data.get("license")
    if license == "other":
        license = data.get("license_name") or license
    return ", ".join(license) if isinstance(license, list) else license


def _published(path: Path) -> str | None:
    """The published data set whose folder, or folder in the hub's cache, contains the path; its hub id."""
    for name in LICENSES:
        if {name.rpartition("/")[2], f"datasets--{name.replace('/', '--')}"} & {*path.parts}:
            return name
    return None
