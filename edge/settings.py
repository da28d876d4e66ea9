"""How the language model runs on a machine: `RUN/edge/settings.json`, which `make edge-tune` writes."""

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

from rlaif.errors import ConfigError
from rlaif.storage.files import read_json, write_json

FILE = "settings.json"
FLASH_ATTENTION = ("auto", "on", "off")
KV_TYPES = ("f16", "q8_0", "q4_0")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of llama.cpp; the defaults are its own, but for the threads.

    threads: None = one for each core that this process may use. batch: most tokens of a call. ubatch: most tokens that
    are computed at once. flash_attention: one of FLASH_ATTENTION. kv_type: precision of the KV cache, one of KV_TYPES.
    repack: whether quantized weights are laid out for the machine when they are loaded. build: the name of a build that
    `make edge-runtime` made; None = the one that it made for this machine.
    Errors: ConfigError for a value that is not allowed.
    """

    threads: int | None = None
    batch: int = 2048
    ubatch: int = 512
    flash_attention: str = "auto"
    kv_type: str = "f16"
    repack: bool = True
    build: str | None = None

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Settings).items():
            value = getattr(self, name)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise ConfigError(f"{name} is {value!r}, expected {getattr(kind, '__name__', kind)}; correct it")
        for name, least in (("threads", 1), ("batch", 1), ("ubatch", 1)):
            if (number := getattr(self, name)) is not None and number < least:
                raise ConfigError(f"{name} is {number}, expected at least {least}; correct it")
        for name, allowed in (("flash_attention", FLASH_ATTENTION), ("kv_type", KV_TYPES)):
            if (value := getattr(self, name)) not in allowed:
                raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(allowed)}; correct it")
        if self.kv_type != "f16" and self.flash_attention == "off":
            raise ConfigError(
                f"kv_type is {self.kv_type!r} and flash_attention 'off', but llama.cpp reads a quantized cache only "
                "with it; set flash_attention to auto or on"
            )


def read_settings(folder: Path) -> Settings:
    """The settings that were found for this machine; the defaults where none were. Errors: ConfigError."""
    path = folder / FILE
    if not path.is_file():
        return Settings()
    content = read_json(path)
    values = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} has no settings, expected what `make edge-tune` writes; run it again, or delete it")
    known = [field.name for field in dataclasses.fields(Settings)]
    if unknown := sorted(values.keys() - set(known)):
        raise ConfigError(
            f"{path}: unknown setting {unknown[0]!r}, expected {', '.join(known)}; run `make edge-tune` again"
        )
    try:
        return Settings(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def write_settings(folder: Path, settings: Settings, **provenance: Any) -> None:
    """Write the settings with what they come from (policy, revision, versions, machine)."""
    write_json(folder / FILE, {**provenance, "settings": dataclasses.asdict(settings)})
