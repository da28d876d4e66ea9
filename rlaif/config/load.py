"""Loads a configuration: a YAML file, changed by `section.key=value` overrides, then validated."""

import difflib
import re
import reprlib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from rlaif.config import AnyConfig, Config, Section
from rlaif.errors import ConfigError

_BOOL = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """SafeLoader with two rules of YAML 1.2: 5e-7 is a number and `no` a string. A repeated key is an error."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        repeated = [key for key in keys if keys.count(key) > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"key {repeated[0]!r} is repeated", node.start_mark)
        return super().construct_mapping(node, deep)


_NUMBER = re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789"))
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a run; see `load_config_of`."""
    return load_config_of(Config, path, overrides)


def load_config_of(kind: type[AnyConfig], path: str | Path, overrides: Sequence[str] = ()) -> AnyConfig:
    """Read a YAML file, apply `section.key=value` overrides in order, and validate the result.

    Errors: ConfigError for a missing or malformed file, an unknown key, or a value that is not allowed.
    """
    path = Path(path)
    if not path.is_file():
        others = ", ".join(sorted(str(other) for other in path.parent.glob("*.yaml"))) or "none"
        raise ConfigError(f"no configuration file {path}; files in that folder: {others}")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: expected a mapping, got {type(values).__name__}; see configs/demo.yaml for an example"
        )
    for override in overrides:
        _apply_override(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_describe(kind, error)}") from error


def _apply_override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    *sections, key = name.split(".")
    if not equals or not all([*sections, key]):
        raise ConfigError(f"--set got {override!r}; expected section.key=value, for example generation.temperature=0.7")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {name}: the value {text!r} is not valid YAML") from error
    for depth, section in enumerate(sections, start=1):
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            raise ConfigError(f"--set {name}: {'.'.join(sections[:depth])} is a value, not a section; it has no keys")
    values[key] = value


def _describe(kind: type[Section], error: ValidationError) -> str:
    """One line about the first problem; unknown keys come first, as a misspelled section is also a missing one."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem, more = problems[0], len(problems) - 1
    where = ".".join(map(str, problem["loc"])) or "the file"
    if problem["type"] == "extra_forbidden":
        allowed = _keys_beside(kind, problem["loc"])
        close = difflib.get_close_matches(str(problem["loc"][-1]), allowed, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        text = f"unknown key {where!r}; {hint}allowed here: {', '.join(allowed)}"
    elif problem["type"] == "missing":
        text = f"{where} is missing; it has no default"
    elif problem["type"] == "value_error":
        text = f"{where}: {problem['ctx']['error']}"
    else:
        text = f"{where} is {reprlib.repr(problem['input'])}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
    return text + (f" (and {more} more)" if more else "")


def _keys_beside(root: type[Section], location: tuple[int | str, ...]) -> list[str]:
    """The keys of the section that contains `location`."""
    section: type[BaseModel] = root
    for name in location[:-1]:
        annotation = section.model_fields[str(name)].annotation
        section = next(kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type))
    return list(section.model_fields)
