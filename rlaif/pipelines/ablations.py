"""What each part of the method is worth: runs that differ in one thing each, side by side in one table.

    python -m rlaif.pipelines.ablations --config configs/ablations.yaml --run runs/ablations

Every variant is a run folder of its own, made by the stages' own commands (or by `rlaif.pipelines.rounds`), and resumes
where it was stopped. Writes table.md.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaif.command import run_stage
from rlaif.config import AblationsConfig, Config
from rlaif.config.load import load_config
from rlaif.errors import ConfigError
from rlaif.pipelines.stages import STAGES, run_stages
from rlaif.report.figures import format_with_interval
from rlaif.storage.files import atomic_write

COLUMNS = {
    "false mentions": ("after", "mention_rate"),
    "answers with one": ("after", "response_rate"),
    "recall": ("after", "recall"),
    "words": ("after", "mean_words"),
    "pairs in the right order": ("labeler", "pair_agreement"),
}


def ablations(config: AblationsConfig, path: Path) -> None:
    """Run every variant, then print the table. Errors: RlaifError."""
    variants = {name: load(config, name) for name in config.variants}  # what is wrong shows before the first run
    path.mkdir(parents=True, exist_ok=True)
    for name, variant in variants.items():
        print(f"ablations: {name}", flush=True)
        stages = ("rlaif.pipelines.rounds",) if config.variants[name].rounds else STAGES
        run_stages(stages, variant, path / name.replace(" ", "-"))
    metrics = {name: read_metrics(path / name.replace(" ", "-")) for name in variants}
    told = table(metrics)
    with atomic_write(path / "table.md") as temporary:
        temporary.write_text(told + "\n", encoding="utf-8")
    print(told)


def load(config: AblationsConfig, name: str) -> Config:
    """The whole configuration of a variant. Errors: ConfigError, naming it."""
    variant = config.variants[name]
    if not name or "/" in name or name.startswith("."):
        raise ConfigError(f"variant {name!r} is to be the name of a folder too; leave out slashes and dots in front")
    try:
        return load_config(variant.config or config.config, [*variant.set, f"seed={config.seed}"])
    except ConfigError as error:
        raise ConfigError(f"variant {name!r}: {error}") from error


def read_metrics(folder: Path) -> dict[str, Any]:
    """Figures of a run; of rounds, with the seconds of all of them."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    rounds = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*/metrics.json")]
    seconds = [stage["seconds"] for one in [metrics, *rounds] for stage in one["stages"].values()]
    return {**metrics, "minutes": sum(seconds) / 60}


def table(metrics: Mapping[str, Any]) -> str:
    """Markdown: a row a variant. Shares in percent; what the first variant began with stands above."""
    rows = [
        f"| variant | {' | '.join(COLUMNS)} | minutes |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    start = next(iter(metrics.values()))
    before = {"after": start["before"], "intervals": {"after": start.get("intervals", {}).get("before", {})}}
    for name, found in {"before alignment": before, **metrics}.items():
        cells = [cell(found, section, key) for section, key in COLUMNS.values()]
        minutes = f"{found['minutes']:.1f}" if "minutes" in found else ""
        rows.append(f"| {name} | {' | '.join(cells)} | {minutes} |")
    return "\n".join(rows)


def cell(metrics: dict[str, Any], section: str, key: str) -> str:
    """A figure with its interval."""
    spread = metrics.get("intervals", {}).get(section, {})
    return format_with_interval(key, metrics.get(section, {}).get(key), spread.get(key))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    summary = "Runs that differ in one thing each, side by side."
    return run_stage(AblationsConfig, "rlaif.pipelines.ablations", summary, ablations, argv)


if __name__ == "__main__":
    sys.exit(main())
