"""Ablations: runs that differ from one configuration in one setting each, compared in one table.

    make ablations PROCESSES=8
    python -m rlaif.pipelines.ablations --config configs/ablations.yaml --run runs/ablations --processes 8

Each variant is a run folder, filled by the commands of the stages (or by `rlaif.pipelines.rounds`). A stopped command
resumes when it is started again. Writes table.md.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaif.command import run_stage
from rlaif.config import AblationsConfig, Config
from rlaif.config.load import load_config
from rlaif.errors import ConfigError
from rlaif.launch import Launching, launching_options
from rlaif.pipelines.stages import ROUNDS, STAGES, run_stages
from rlaif.report.figures import format_with_interval
from rlaif.storage.files import atomic_write, read_json

COLUMNS = {  # heading -> section and key of metrics.json
    "false mentions": ("after", "mention_rate"),
    "answers with one": ("after", "response_rate"),
    "recall": ("after", "recall"),
    "words": ("after", "mean_words"),
    "pairs in the right order": ("labeler", "pair_agreement"),
    "short answers": ("short_answers", "after"),
}


def ablations(config: AblationsConfig, path: Path, **launching: str) -> None:
    """Run every variant, then print the table. launching: of DPO, see rlaif.launch. Errors: RlaifError."""
    on = Launching(**launching)
    on.check()
    variants = {name: load_variant(config, name) for name in config.variants}  # reports errors before the first run
    path.mkdir(parents=True, exist_ok=True)
    for name, variant in variants.items():
        print(f"ablations: {name}", flush=True)
        stages = (ROUNDS,) if config.variants[name].rounds else STAGES
        run_stages(stages, variant, path / folder_name(name), on)
    content = table({name: read_metrics(path / folder_name(name)) for name in variants})
    with atomic_write(path / "table.md") as temporary:
        temporary.write_text(content + "\n", encoding="utf-8")
    print(content)


def folder_name(variant: str) -> str:
    return variant.replace(" ", "-")


def load_variant(config: AblationsConfig, name: str) -> Config:
    """The whole configuration of a variant. Errors: ConfigError, with the name of the variant."""
    variant = config.variants[name]
    if not name or "/" in name or name.startswith("."):
        raise ConfigError(f"variant name {name!r} is not a valid folder name; use one without '/' or a leading dot")
    try:
        return load_config(variant.config or config.config, [*variant.set, f"seed={config.seed}"])
    except ConfigError as error:
        raise ConfigError(f"variant {name!r}: {error}") from error


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a run with the minutes of its stages, those of its rounds included."""
    metrics = read_json(folder / "metrics.json")
    rounds = [read_json(file) for file in folder.glob("*/metrics.json")]
    seconds = [stage["seconds"] for run in [metrics, *rounds] for stage in run["stages"].values()]
    return {**metrics, "minutes": sum(seconds) / 60}


def table(metrics: Mapping[str, Any]) -> str:
    """Markdown, one row per variant; shares in percent. The first row is the first variant before alignment.

    A column for which no variant has a figure is left out, that of the minutes, too.
    """
    columns = {
        heading: (section, key)
        for heading, (section, key) in COLUMNS.items()
        if any(key in figures.get(section, {}) for figures in metrics.values())
    }
    timed = any("minutes" in figures for figures in metrics.values())
    headings = ["variant", *columns, *(["minutes"] if timed else [])]
    rows = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    first = next(iter(metrics.values()))
    intervals, short = first.get("intervals", {}), first.get("short_answers", {})
    before = {
        "after": first["before"],
        "short_answers": {"after": short.get("before")},
        "intervals": {
            "after": intervals.get("before", {}),
            "short_answers": {"after": intervals.get("short_answers", {}).get("before")},
        },
    }
    for name, figures in {"before alignment": before, **metrics}.items():
        cells = [cell(figures, section, key) for section, key in columns.values()]
        if timed:
            cells.append(f"{figures['minutes']:.1f}" if "minutes" in figures else "")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def cell(metrics: Mapping[str, Any], section: str, key: str) -> str:
    """A figure with its interval."""
    intervals = metrics.get("intervals", {}).get(section, {})
    return format_with_interval(key, metrics.get(section, {}).get(key), intervals.get(key))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    summary = "Runs that differ in one setting each, compared in one table."
    return run_stage(AblationsConfig, "rlaif.pipelines.ablations", summary, ablations, argv, launching_options())


if __name__ == "__main__":
    sys.exit(main())
