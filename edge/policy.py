"""The policy of a run that leaves for a device, and its processor."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaif.config import Config, ModelSection
from rlaif.errors import ModelError
from rlaif.inference.revision import pin_model
from rlaif.storage.files import read_json

if TYPE_CHECKING:
    from model import MiniCPMVProcessor

VERSIONS = ("2.5", "2.6")


def run_policy(config: Config, run: Path) -> tuple[ModelSection, str]:
    """The policy that `make dpo` wrote into the run folder, an adapter merged, and its revision; without one, after a
    line that says so, the policy of the configuration.

    Errors: ModelError: it is not MiniCPM-V of one of VERSIONS, or has no weights.
    """
    folder = run / "policy"
    section = config.policy
    if folder.is_dir():
        section = section.model_copy(update={"model": str(folder), "revision": None})
    else:
        print(f"{run} has no aligned policy; takes the one of the configuration, {section.model}")
    section, revision = pin_model(section)
    check_version(section)
    return section, revision


def check_version(section: ModelSection) -> None:
    """Errors: ModelError for a model that is not MiniCPM-V of one of VERSIONS."""
    settings = _model_config(section)
    kind, version = settings.get("model_type"), str(settings.get("version"))
    if kind != "minicpmv" or version not in VERSIONS:
        what = f"MiniCPM-V {version}" if kind == "minicpmv" else f"a model of type {kind!r}"
        raise ModelError(
            f"{section.model} is {what}, expected MiniCPM-V {' or '.join(VERSIONS)}; give such a policy with CONFIG= "
            "or RUN="
        )


def load_processor(folder: Path) -> "MiniCPMVProcessor":
    """The processor of a policy."""
    from model import MiniCPMVProcessor

    processor: MiniCPMVProcessor = MiniCPMVProcessor.from_pretrained(folder, trust_remote_code=False)
    return processor


def policy_folder(section: ModelSection) -> Path:
    """The folder of a policy; a hub id with its commit is downloaded if it is not cached."""
    if Path(section.model).is_dir():
        return Path(section.model)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(section.model, revision=section.revision))


def _model_config(section: ModelSection) -> dict[str, Any]:
    file = Path(section.model) / "config.json"
    if not file.is_file():
        from huggingface_hub import hf_hub_download

        file = Path(hf_hub_download(section.model, "config.json", revision=section.revision))
    content: dict[str, Any] = read_json(file)
    return content
