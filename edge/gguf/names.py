"""The GGUF files of a run: their names, and whether they are of its policy. Light, for commands that write none."""

from collections.abc import Sequence
from pathlib import Path

from edge.gguf.file import read_text
from edge.policy import Policy, check_exported
from rlaif.errors import ConfigError, InputError

QUANTS = ("f16", "Q8_0", "Q6_K", "Q4_K_M", "Q4_0")
MMPROJ = "mmproj-f16.gguf"
REVISION = "rlaif.revision"  # of the policy, in the metadata of each file


def language_file(run: Path, quant: str) -> Path:
    return run / "edge" / f"language-{quant}.gguf"


def mmproj_file(run: Path) -> Path:
    return run / "edge" / MMPROJ


def check_quants(quants: Sequence[str]) -> None:
    """Errors: ConfigError: one of them is unknown, or there is none."""
    if not quants:
        raise ConfigError(f"QUANT is empty, expected one or more of {', '.join(QUANTS)}; give one with QUANT=")
    for quant in quants:
        if quant not in QUANTS:
            raise ConfigError(f"QUANT is {quant!r}, expected one or more of {', '.join(QUANTS)}; correct QUANT=")


def find_language(run: Path, quant: str) -> Path:
    """The language model of a run in one quantization.

    Errors: ConfigError: it is not one of QUANTS; InputError: it has not been exported.
    """
    if quant not in QUANTS:
        raise ConfigError(f"QUANT is {quant!r}, expected one of {', '.join(QUANTS)}; correct QUANT=")
    file = language_file(run, quant)
    if not file.is_file():
        known = ", ".join(name for name in QUANTS if language_file(run, name).is_file())
        raise InputError(
            f"{file} is missing, {file.parent} has {known or 'no language model'}; run `{export_command(run, quant)}`"
        )
    return file


def check_current(file: Path, policy: Policy, run: Path, quant: str) -> None:
    """Errors: InputError where a GGUF file of the run was not written from the policy that the run has now."""
    check_exported(file, read_text(file, REVISION), policy, export_command(run, quant))


def export_command(run: Path, quant: str) -> str:
    """What writes a language model and mmproj again."""
    return f"make export-edge RUN={run} QUANT={quant}"
