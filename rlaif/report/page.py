"""One self-contained page about a run: what changed, how good the labeler is, how training went, pairs to check by eye.

    python -m rlaif.report --config configs/demo.yaml --run runs/demo

Reads metrics.json, claims, responses, pairs, evaluations and dpo/log.json, whichever of them the run has, and writes
report.html. The page needs no network: images are data URIs, charts are inline SVG, and everything that a model or a
user wrote is escaped. The column `reference` of prompts is not read.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlaif.config import Config
from rlaif.errors import InputError
from rlaif.report.chart_files import write_charts
from rlaif.report.distributions import certainty, falling_rewards, lengths, losses, training
from rlaif.report.gallery import gallery
from rlaif.report.pairs import pair_cards
from rlaif.report.people import people
from rlaif.report.sections import benchmarks, change, labeler, outcomes, percent, rounds, short_answers, stages
from rlaif.storage.files import atomic_write, read_json
from rlaif.storage.run import Run
from rlaif.storage.schemas import COMMANDS, SCHEMAS
from rlaif.storage.tables import count_rows, has_table, read_metadata
from rlaif.storage.versions import code_version

STAGES = ("import", "generation", "feedback", "dpo", "evaluate")  # in the order in which they run


def open_run(config: Config, path: Path) -> Run[Config]:
    """The run to report on. Errors: InputError: there is none."""
    if not path.is_dir():
        raise InputError(f"run folder {path} does not exist; create it with `make generate RUN={path}`")
    return Run(path, config, "report")


def charts(run: Run[Config]) -> dict[str, Any]:
    """The sections of the page that have charts."""
    return {
        "rounds": rounds(run.path / "rounds.json"),
        "training": training(run.path / "dpo" / "log.json"),
        "certainty": certainty(run),
        "lengths": lengths(run),
        "people": people(run.metrics()),
    }


def chart_files(config: Config, path: Path) -> Path:
    """Write the charts of the page as PNG files; returns their folder. Errors: InputError."""
    run = open_run(config, path)
    run.announce("the charts of the report as PNG files")
    drawn = charts(run)
    single = [drawn["certainty"], (drawn["people"] or {}).get("chart")]
    first = [*(drawn["rounds"] or {"charts": []})["charts"], *(drawn["training"] or [])]
    return write_charts(run, [*first, *filter(None, single), *drawn["lengths"]])


def report(config: Config, path: Path) -> Path:
    """Write report.html of a run; returns its path. Errors: InputError for a missing run or a damaged table."""
    run = open_run(config, path)
    run.announce("one page, report.html, from what the run has so far")
    metrics = run.metrics()
    page = {
        "name": path.resolve().name,
        "folder": str(path),
        "round": config.round,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "code_version": code_version(),
        "imported": metrics.get("import"),
        "change": change(metrics),
        **charts(run),
        "labeler": labeler(metrics),
        "evaluated": "labeler" in metrics,
        "short_answers": short_answers(metrics),
        "benchmarks": benchmarks(metrics),
        "falling": falling_rewards(path / "dpo" / "log.json"),
        "losses": losses(path / "dpo.json"),
        "outcomes": outcomes(metrics),
        "lost": metrics.get("feedback", {}).get("lost_responses", 0),
        "stages": stages(metrics),
        "gallery": gallery(run),
        "pairs": pair_cards(run),
        "total_pairs": count_rows(run, "pairs") if has_table(run, "pairs") else 0,
        "provenance": provenance(run, metrics),
        "made_by": COMMANDS,
    }
    target = path / "report.html"
    with atomic_write(target) as temporary:
        temporary.write_text(render(page), encoding="utf-8", errors="backslashreplace")  # a path may not be UTF-8
    print(f"  wrote    {target} ({target.stat().st_size / 2**20:.1f} MiB); open it in a browser")
    print(f"  next     make browse RUN={path}, which shows every pair, claim and dropped row")
    return target


def render(page: dict[str, Any]) -> str:
    """The page as HTML; every value is escaped except the SVG of rlaif.report.charts."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "readable": lambda name: str(name).replace("_", " ")}
    return environment.get_template("report.html.j2").render(page)


def served(page: bytes) -> bytes:
    """The page as `make browse` serves it: its links to pairs, prompts and dropped rows are shown."""
    return page.replace(b'data-served="no"', b'data-served="yes"', 1)


def provenance(run: Run[Config], metrics: dict[str, Any]) -> dict[str, Any]:
    """The inputs of each table, from its metadata, and the settings of every stage, from its marker."""
    tables = [
        read_metadata(run, table) | {"rows": count_rows(run, table)} for table in SCHEMAS if has_table(run, table)
    ]
    markers = {stage: run.path / f"{stage}.json" for stage in STAGES}
    settings = {
        stage: json.dumps(read_json(marker)["settings"], indent=2, ensure_ascii=False)
        for stage, marker in markers.items()
        if marker.is_file()
    }
    return {
        "tables": tables,
        "settings": settings,
        "versions": metrics.get("versions", {}),
        "seeds": metrics.get("seeds", {}),
    }
