"""Describes every configuration key, in the terminal or as the page docs/configuration.md.

    python -m rlaif.config.describe [--section data] [--markdown docs/configuration.md]

All of it comes from the configuration classes: their docstrings, and type, default and description of each field.
"""

import argparse
import difflib
import json
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from rlaif.config import AblationsConfig, Config, EncoderConfig, RewriteConfig, Section, TrainingConfig
from rlaif.errors import ConfigError, RlaifError

ROOTS: dict[type[Section], str] = {  # what a YAML file can hold -> its title
    Config: "A run",
    AblationsConfig: "A table of ablations",
    RewriteConfig: "Caption rewriting",
    TrainingConfig: "Training of MiniCPM-V",
    EncoderConfig: "Training of a vision encoder",
}

INTRODUCTION = """\
# Configuration

A configuration is a YAML file, such as those in `configs/`. Single values are changed on the command line:

```
make demo SET="seed=1 generation.temperature=1.0 dpo.trainer.beta=0.2"
```

An unknown key and a value that is not allowed are errors. `make help-config` prints this page, and
`make help-config SECTION=data` one section of it.
`python -m rlaif.config.describe --markdown docs/configuration.md` writes the page from the classes in `rlaif/config`.
"""


@dataclass(frozen=True)
class Group:
    """A section with the paths of all keys that hold it: a model stands at `policy`, `labeler` and others."""

    kind: type[Section]
    paths: list[str] = field(default_factory=list)  # "" for a whole file

    @property
    def name(self) -> str:
        """The name of the section, or of the configuration: training, encoder, ablations, "" for that of a run."""
        return self.kind.__name__.removesuffix("Section").removesuffix("Config").lower()

    @property
    def text(self) -> str:
        """The docstring of the section, on one line."""
        return " ".join((self.kind.__doc__ or "").split())

    def has(self, name: str) -> bool:
        """Whether `name` is the section, one that contains it, or one of its keys."""
        paths = [path for path in self.paths if path]
        if any(path == name or path.startswith(f"{name}.") for path in paths) or name == self.name:
            return True
        path, _, key = name.rpartition(".")
        info = self.kind.model_fields.get(key)
        return path in self.paths and info is not None and section_of(info.annotation) is None


def groups() -> list[Group]:
    """Every section of the configurations, once, in the order of the fields; each configuration before its sections."""
    by_class: dict[type[Section], Group] = {}

    def visit(kind: type[Section], path: str) -> None:
        group = by_class.setdefault(kind, Group(kind))
        if path not in group.paths:  # configurations of different commands share sections
            group.paths.append(path)
        for name, info in kind.model_fields.items():
            if inner := section_of(info.annotation):
                key = f"{name}.NAME" if get_origin(info.annotation) is dict else name
                visit(inner, f"{path}.{key}" if path else key)

    for root in ROOTS:
        visit(root, "")
    return list(by_class.values())


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a field holds, alone, as an option, or in a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(section_of, get_args(annotation))), None)


def type_text(annotation: Any, limits: str, link: Callable[[Group], str]) -> str:
    """The type of a field in words, such as "integer ≥ 1 or null"; `link` gives the text for a section."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(type_text(argument, limits, link) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is list:
        return f"list of {type_text(arguments[0], '', link)}".replace("one of ", "").replace("string", "strings")
    if origin is dict:
        return "mapping" if arguments[1] is Any else f"mapping of names to {type_text(arguments[1], '', link)}"
    if issubclass(annotation, Section):
        return link(Group(annotation))
    names = {bool: "true or false", str: "string", type(None): "null"}
    return names.get(annotation) or f"{'integer' if annotation is int else 'number'} {limits}".strip()


def limits_text(info: FieldInfo) -> str:
    """The allowed range of a number, such as "≥ 0, < 1"; empty without limits."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        (sign, getattr(item, name)) for item in info.metadata for name, sign in signs.items() if hasattr(item, name)
    ]
    return ", ".join(f"{sign} {limit:g}" for sign, limit in limits)


def default_text(info: FieldInfo) -> str:
    """The default of a field as YAML has it; empty for a section, whose keys have defaults."""
    if info.is_required():
        return "required"
    if isinstance(info.default, Section):
        return ""
    if isinstance(info.default, str) and info.default:
        return info.default
    return json.dumps(info.default).replace('"', "" if isinstance(info.default, list) else '"')


def as_text(shown: Sequence[Group]) -> Iterator[str]:
    """Lines for the terminal."""
    for group in shown:
        title = ", ".join(filter(None, group.paths)) or ROOTS[group.kind]
        yield from textwrap.wrap(f"{title}: {group.text}", 100)
        yield ""
        for name, info in group.kind.model_fields.items():
            kind = type_text(info.annotation, limits_text(info), lambda inner: f"section {inner.name}")
            default = default_text(info)
            default = f"default {default}" if default not in ("", "required") else default
            yield f"  {name}: {'; '.join(filter(None, [kind, default]))}"
            yield from textwrap.wrap(info.description or "", 100, initial_indent="      ", subsequent_indent="      ")
        yield ""


def as_markdown(shown: Sequence[Group]) -> str:
    """The page."""
    lines = [INTRODUCTION]
    for group in shown:
        paths = ", ".join(f"`{path}`" for path in group.paths if path)
        lines.append(f"{'###' if paths else '##'} {group.name if paths else ROOTS[group.kind]}\n")
        lines.append(group.text.replace(". ", ".\n") + "\n")
        if paths and paths != f"`{group.name}`":
            lines.append(f"In {paths}.\n")
        lines.append("| Key | Type | Default | Description |\n|---|---|---|---|")
        for name, info in group.kind.model_fields.items():
            kind = type_text(info.annotation, limits_text(info), lambda inner: f"section [{inner.name}](#{inner.name})")
            default = default_text(info)
            cells = [
                f"`{name}`",
                kind,
                default if default in ("", "required") else f"`{default}`",
                (info.description or "").replace("*", "\\*"),
            ]
            lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


def select(section: str) -> list[Group]:
    """The groups of a section or key; all for an empty name. Errors: ConfigError for an unknown name."""
    known = groups()
    shown = [group for group in known if not section or group.has(section)]
    if not shown:
        names = [path for group in known for path in group.paths if path]
        names += [group.name for group in known if group.kind in ROOTS and group.name not in ("", *names)]
        close = difflib.get_close_matches(section, names, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"unknown section {section!r}; {hint}sections: {', '.join(names)}")
    return shown


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m rlaif.config.describe", description="Describe configuration keys.")
    parser.add_argument(
        "--section", default="", metavar="NAME", help="a section, such as data or dpo.lora; default all"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a page in place of printing")
    args = parser.parse_args(argv)
    try:
        shown = select(args.section)
    except RlaifError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.markdown:
        args.markdown.write_text(as_markdown(shown), encoding="utf-8")
    else:
        print("\n".join(as_text(shown)).rstrip())
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the output may be piped into head or a pager
    sys.exit(main())
